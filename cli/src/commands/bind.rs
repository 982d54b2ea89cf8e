//! `mapbuf bind`

use crate::{
    failure::Failure,
    module,
    output::{self, OutputArgs},
    pci::{Address, Bar, Function, Interrupts, Ledger, Obstacle, System, MAPBUF},
    terminal,
};
use clap::Args as Group;
use mapbuf::abi::explain::Bytes;
use serde::Serialize;
use std::fmt;

/// Give a PCI device to mapbuf, so that programs can drive it
///
/// First shows what it will do: the device, its current driver, its IOMMU group. Refuses a device that the system uses (a
/// mounted disk, the console, a network interface that is up), and one that shares its IOMMU group with another driver's
/// device. Changes nothing until you confirm. 'mapbuf unbind' returns the device to its current driver.
#[derive(Debug, Group)]
pub struct BindArgs {
    /// The device, as in 0000:00:04.0 (lspci -D)
    pub device: Address,
    /// Give it to this driver instead
    #[arg(long, value_name = "NAME", default_value = MAPBUF)]
    pub driver: String,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
    /// Only show what would be done
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// A device, and what is to become of it, in the names of JSON.
#[derive(Serialize)]
pub struct Plan {
    device: Address,
    ids: String,
    class: &'static str,
    driver: Option<String>,
    to: String,
    bars: Vec<Bar>,
    interrupts: Interrupts,
    iommu_group: Option<u32>,
    neighbours: Vec<Neighbour>,
    obstacles: Vec<Obstacle>,
    done: bool,
}

#[derive(Serialize)]
struct Neighbour {
    device: Address,
    driver: Option<String>,
}

impl Plan {
    fn new(function: &Function, to: &str) -> Self {
        let neighbours = function.neighbours().into_iter().map(|other| Neighbour {
            driver: other.driver(),
            device: other.address,
        });
        Self {
            device: function.address.clone(),
            ids: function.ids(),
            class: function.class_name(),
            driver: function.driver(),
            to: to.to_owned(),
            bars: function.bars(),
            interrupts: function.interrupts(),
            iommu_group: function.group(),
            neighbours: neighbours.collect(),
            obstacles: function.obstacles(to),
            done: false,
        }
    }

    fn refusal(&self) -> Option<Failure> {
        let first = self.obstacles.first()?;
        Some(Failure::Device {
            what: format!("{} cannot be bound: {}", self.device, first.what),
            remedy: first.next.clone(),
        })
    }
}

/// The BARs of a device, in a line.
pub fn describe_bars(bars: &[Bar]) -> String {
    let each = bars.iter().map(|bar| {
        let kind = match (bar.memory, bar.prefetchable) {
            (true, false) => "",
            (true, true) => " prefetchable",
            (false, _) => " of ports",
        };
        format!("bar{} {}{kind}", bar.number, Bytes(bar.bytes))
    });
    let all: Vec<_> = each.collect();
    if all.is_empty() {
        "none".into()
    } else {
        all.join(", ")
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} {}", self.device, self.class, self.ids)?;
        let driver = self.driver.as_deref().unwrap_or("none");
        writeln!(f, "  driver now   {driver}")?;
        writeln!(f, "  BARs         {}", describe_bars(&self.bars))?;
        writeln!(f, "  interrupts   {}", self.interrupts)?;
        match self.iommu_group {
            Some(group) => writeln!(f, "  IOMMU group  {group}")?,
            None => writeln!(
                f,
                "  IOMMU group  none: its DMA reaches all of memory, and so can any program that opens its node (CAP_SYS_RAWIO)"
            )?,
        }
        for other in &self.neighbours {
            let driver = other.driver.as_deref().unwrap_or("no driver");
            writeln!(f, "    with it    {} ({driver})", other.device)?;
        }
        if self.obstacles.is_empty() {
            writeln!(f, "  in use       no")?;
        }
        for obstacle in &self.obstacles {
            writeln!(f, "  in the way   {}", obstacle.what)?;
            writeln!(f, "    next       {}", obstacle.next)?;
        }
        if !self.done {
            return Ok(());
        }
        match self.to.as_str() {
            MAPBUF => writeln!(f, "  bound        /dev/mapbuf/pci-{}", self.device),
            other => writeln!(f, "  bound        to {other}"),
        }
    }
}

pub fn run(args: &BindArgs) -> Result<(), Failure> {
    let system = System::default();
    let function = system.function(&args.device)?;
    let mut plan = Plan::new(&function, &args.driver);
    if !args.output.json {
        output::print(&plan)?;
    }
    if let Some(refusal) = plan.refusal() {
        return Err(refusal);
    }
    if args.dry_run {
        return finish(args, &plan);
    }
    if plan.driver.as_ref() == Some(&args.driver) {
        return Err(Failure::Device {
            what: format!("{} has {} already", args.driver, args.device),
            remedy: format!("mapbuf unbind {}", args.device),
        });
    }
    if !system.has_driver(&args.driver) {
        return Err(Failure::NoModule(match args.driver.as_str() {
            MAPBUF if module::is_loaded() => {
                "the loaded driver does not bind PCI devices; build and load a newer one".to_owned()
            }
            MAPBUF => "the driver is not loaded; run: mapbuf load".to_owned(),
            other => format!("there is no PCI driver {other}; run: modprobe {other}"),
        }));
    }
    if !args.yes && !agreed(&plan)? {
        return finish(args, &plan);
    }
    let ledger = Ledger::default();
    ledger.note(&args.device, plan.driver.as_deref())?;
    if let Err(failure) = function.give(Some(&args.driver)) {
        // As it was. The first failure is the one that tells why.
        let _ = function.give_back(plan.driver.as_deref());
        ledger.forget(&args.device);
        return Err(failure);
    }
    plan.done = true;
    if args.output.json {
        return output::print_json(&plan);
    }
    output::print(&format!(
        "{}: {}\n",
        args.device,
        match args.driver.as_str() {
            MAPBUF => format!("bound; its node is /dev/mapbuf/pci-{}", args.device),
            other => format!("bound to {other}"),
        }
    ))
    .map(drop)
}

fn finish(args: &BindArgs, plan: &Plan) -> Result<(), Failure> {
    if args.output.json {
        return output::print_json(plan);
    }
    output::print(&"nothing changed\n").map(drop)
}

/// Asks for confirmation on the terminal.
fn agreed(plan: &Plan) -> Result<bool, Failure> {
    let question = format!("give {} to {}", plan.device, plan.to);
    terminal::confirms(
        &question,
        &format!("that {} goes to {}", plan.device, plan.to),
    )
}
