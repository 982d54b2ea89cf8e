//! `mapbuf unbind`

use crate::{
    failure::Failure,
    output::{self, OutputArgs},
    pci::{importers, Address, Ledger, System, MAPBUF},
};
use clap::Args as Group;
use mapbuf::sysfs;
use serde::Serialize;
use std::{
    fmt,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

/// How long the kernel may take before it is said what it waits for.
const LONG: Duration = Duration::from_secs(5);

/// Unbind a PCI device from mapbuf, and return it to its previous driver
///
/// Programs that are using it keep running: their mappings of it raise SIGBUS, and their calls fail with ENODEV. Drivers that
/// imported its memory are told to let go; if one takes longer than a few seconds, its device is named. Named buffers that are for
/// the device ('mapbuf create --device') are removed.
#[derive(Debug, Group)]
pub struct UnbindArgs {
    /// The device, as in 0000:00:04.0 (mapbuf list)
    pub device: Address,
    /// Unbind it from this driver instead
    #[arg(long, value_name = "NAME", default_value = MAPBUF)]
    pub driver: String,
    /// Leave it without a driver
    #[arg(long)]
    pub no_driver: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Serialize)]
struct Unbound {
    device: Address,
    from: String,
    driver: Option<String>,
    /// Named buffers that were for the device.
    removed: Vec<String>,
}

impl fmt::Display for Unbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.removed {
            writeln!(f, "{name}: removed, as it was for {}", self.device)?;
        }
        match &self.driver {
            Some(driver) => writeln!(f, "{}: bound to {driver} again", self.device),
            None => writeln!(f, "{}: now without a driver", self.device),
        }
    }
}

pub fn run(args: &UnbindArgs) -> Result<(), Failure> {
    let function = System::default().function(&args.device)?;
    let has = function.driver();
    if has.as_ref() != Some(&args.driver) {
        return Err(Failure::Device {
            what: match has {
                Some(other) => {
                    format!("{} belongs to {other}, not to {}", args.device, args.driver)
                }
                None => format!("{} is not bound to a driver", args.device),
            },
            remedy: format!("ls /sys/bus/pci/drivers/{} shows its devices", args.driver),
        });
    }
    let removed = names_for(&args.device);
    let ledger = Ledger::default();
    let former = ledger.former(&args.device).filter(|_| !args.no_driver);
    let patient = args.driver == MAPBUF;
    said_if_long(patient, || function.give_back(former.as_deref()))?;
    ledger.forget(&args.device);
    let unbound = Unbound {
        device: args.device.clone(),
        from: args.driver.clone(),
        driver: function.driver(),
        removed,
    };
    output::answer(args.output, &unbound)
}

/// The named buffers that are for a device; none where the driver is not loaded.
fn names_for(device: &Address) -> Vec<String> {
    let device = device.to_string();
    let all = sysfs::list().unwrap_or_default();
    all.into_iter()
        .filter(|entry| entry.for_device.as_ref() == Some(&device))
        .map(|entry| entry.name)
        .collect()
}

/// Does it, and says what it waits for when it takes long.
fn said_if_long<T: Send>(say: bool, work: impl FnOnce() -> T + Send) -> T {
    let (done, waits) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let late = waits.recv_timeout(LONG) == Err(RecvTimeoutError::Timeout);
            if say && late {
                anstream::eprintln!("mapbuf: {}", waiting());
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// What an unbind waits for.
fn waiting() -> String {
    let importers: Vec<_> = importers::of_coherent_memory().into_iter().collect();
    match importers.as_slice() {
        [] => format!(
            "the kernel still takes the device back: /proc/{}/stack has where it is",
            std::process::id()
        ),
        _ => format!(
            "still waiting for importers of coherent memory, which were told to let go: {}",
            importers.join(", ")
        ),
    }
}
