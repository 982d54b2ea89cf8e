//! `mapbuf matrix`: every way to map every kind of memory, tried in the driver that is loaded, beside what the table of
//! rules says.
//!
//! The table is the one that the driver has (`policy/src/plan.rs`), asked here about what can be seen of the memory from
//! outside: `INFO`, `SEGMENTS`, `/proc/kpageflags`. So a cell differs when the driver does not do what its rules say, and
//! also when it tells its rules something about the memory that is not so.

mod answer;
mod memory;
mod report;
mod rights;
mod subjects;
mod table;
mod trial;

use crate::{
    failure::Failure,
    output::{self, OutputArgs},
};
use answer::Answer;
use clap::Args as Group;
use mapbuf::{Cache, Device, Kind, Method, Reason};
use mapbuf_policy::plan::{decide, Request, Sharing};
use report::{Cell, Report};
use rights::Rights;
use subjects::{Part, Subject};

/// Try every way to map, and compare it with the table of rules
///
/// Asks the driver for every combination of memory kind, cache mode, method, sharing and several parts of a buffer, with
/// and without CAP_SYS_ADMIN. If the table says that it maps, it must show the right bytes in both directions (or keep
/// writes private); if not, it must be refused with exactly the table's reason and operands. Run it as root. The exit code
/// is 1 if any cell differs.
///
/// Regions that were declared with 'probe' can be written to, so they are tried too; others only if they are named. Their
/// contents are restored. Device memory is mapped, but never accessed.
#[derive(Debug, Group)]
#[command(after_long_help = "Examples:
  mapbuf matrix
  mapbuf matrix --region ring
  mapbuf matrix --json | grep '\"agrees\":false'")]
pub struct MatrixArgs {
    /// Try only this kind of memory (can be repeated)
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub kind: Vec<Kind>,
    /// Also try this region, and write to it if it is memory (can be repeated)
    #[arg(long, value_name = "NAME")]
    pub region: Vec<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The kinds that are had by asking for them.
const ALLOCATED: [Kind; 4] = [Kind::Vmalloc, Kind::Pages, Kind::Contiguous, Kind::Coherent];

fn kind(name: &str) -> Result<Kind, String> {
    let kind = Kind::from_name(name).filter(|kind| Kind::own().contains(kind));
    kind.ok_or_else(|| {
        let names: Vec<_> = Kind::own().iter().map(|kind| kind.name()).collect();
        format!("one of {}", names.join(", "))
    })
}

pub fn run(args: &MatrixArgs) -> Result<(), Failure> {
    let rights = Rights::of_administrator()?;
    let device = Device::open()?;
    let mut report = Report::default();
    let wanted = |kind: &Kind| args.kind.is_empty() || args.kind.contains(kind);
    let allocated = [Kind::Vmalloc, Kind::Pages, Kind::Contiguous, Kind::Coherent];
    for kind in allocated.into_iter().filter(wanted) {
        for &cache in Cache::ALL {
            for shape in subjects::shapes(kind, cache) {
                match subjects::allocate(&device, kind, cache, shape)? {
                    Ok(subject) => try_subject(&rights, &subject, &mut report)?,
                    Err(refused) => refused_at_once(&rights, &device, &refused, &mut report)?,
                }
            }
        }
    }
    let regions = match wanted(&Kind::Region) {
        true => subjects::regions(&device, &args.region)?,
        false => Vec::new(),
    };
    for subject in regions {
        try_subject(&rights, &subject, &mut report)?;
        subject.restore()?;
    }
    if args.output.json {
        output::print(&report.json()?)?;
    } else {
        output::print(&table::Table(&report))?;
    }
    match report.differ() {
        0 => Ok(()),
        differ => Err(Failure::Differs(differ)),
    }
}

/// What came of one way, for an overview.
pub struct Outcome {
    pub kind: Kind,
    pub method: Method,
    pub maps: bool,
    pub reason: Option<Reason>,
}

/// What came of all ways with cached memory.
pub struct Overview {
    pub outcomes: Vec<Outcome>,
    pub differ: usize,
    /// Why some memory could not be tried.
    pub left_out: Option<mapbuf::Error>,
}

/// Whether there was too little memory, which is nobody's fault.
fn is_shortage(error: &mapbuf::Error) -> bool {
    use Reason::*;
    let short = [
        OverLimit,
        OverUserLimit,
        OutOfMemory,
        NoContiguousMemory,
        NoCoherentMemory,
    ];
    error.reason().is_some_and(|reason| short.contains(&reason))
}

/// Tries every way to map cached memory; `None` for somebody who may not see where memory lies.
pub fn overview() -> Result<Option<Overview>, Failure> {
    let Ok(rights) = Rights::of_administrator() else {
        return Ok(None);
    };
    let device = Device::open()?;
    let mut report = Report::default();
    let mut left_out = None;
    for kind in ALLOCATED {
        for shape in subjects::shapes(kind, Cache::Cached) {
            match subjects::allocate(&device, kind, Cache::Cached, shape) {
                Ok(Ok(subject)) => try_subject(&rights, &subject, &mut report)?,
                Ok(Err(_)) => {}
                Err(Failure::Driver(error)) if is_shortage(&error) => left_out = Some(error),
                Err(failure) => return Err(failure),
            }
        }
    }
    for subject in subjects::regions(&device, &[])? {
        try_subject(&rights, &subject, &mut report)?;
        subject.restore()?;
    }
    Ok(Some(Overview {
        left_out,
        differ: report.differ(),
        outcomes: report
            .cells
            .iter()
            .map(|cell| Outcome {
                kind: cell.kind,
                method: cell.method(),
                maps: matches!(cell.driver, Answer::Maps { .. }),
                reason: match &cell.driver {
                    Answer::Refused(refusal) => Some(refusal.reason),
                    _ => None,
                },
            })
            .collect(),
    }))
}

/// Every request for a part of a buffer: method × sharing × with and without CAP_SYS_ADMIN.
fn requests(part: Part) -> impl Iterator<Item = Request> {
    [true, false].into_iter().flat_map(move |admin| {
        Sharing::ALL.iter().flat_map(move |&sharing| {
            Method::ALL.iter().map(move |&method| Request {
                method,
                page: part.page,
                pages: part.pages,
                sharing,
                exec: false,
                write: sharing != Sharing::PrivateReadOnly,
                admin,
                // The kernel chooses the address.
                lined_up: true,
            })
        })
    })
}

fn try_subject(rights: &Rights, subject: &Subject, report: &mut Report) -> Result<(), Failure> {
    for &part in &subject.parts {
        for request in requests(part) {
            let table = Answer::from(decide(&subject.memory, &request));
            let driver = rights.with(request.admin, || trial::map(subject, &request))??;
            report.enter(Cell {
                kind: subject.memory.kind(),
                region: subject.region.clone(),
                cache: subject.memory.cache(),
                bytes: subject.buffer.len(),
                runs: subject.memory.runs(),
                part,
                request,
                table,
                driver,
            });
        }
    }
    Ok(())
}

/// Memory that cannot be had has no mapping either: each cell is refused by ALLOC already.
fn refused_at_once(
    rights: &Rights,
    device: &Device,
    refused: &subjects::Refused,
    report: &mut Report,
) -> Result<(), Failure> {
    let part = Part::whole(refused.pages());
    for request in requests(part) {
        let driver = rights.with(request.admin, || refused.try_again(device))?;
        report.enter(Cell {
            kind: refused.kind,
            region: None,
            cache: refused.cache,
            bytes: refused.bytes,
            runs: 0,
            part,
            request,
            table: Answer::Refused(refused.expected),
            driver,
        });
    }
    Ok(())
}
