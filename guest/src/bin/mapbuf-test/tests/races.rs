//! Races, on purpose: each operation of the table beside each other, in a module that waits at its seams
//! (`driver/src/sys/seam.rs`), so that one comes between the other's steps.
//!
//! A round has an [`Arena`] with one buffer in it; both operations are let go at once, each in a thread of its own.
//! After a round nobody may have seen another's bytes, and the driver must hold nothing. A new operation is a function
//! in `operations.rs` and a line in its table: its pairs, and their tests, follow.

mod arena;
mod gone;
mod operations;

use self::arena::{Arena, Rules, Side};
use self::operations::{Act, Operation, OPERATIONS};
use super::lifetime::comes_to;
use super::module::Expedited;
use crate::check::{Failure, Outcome};
use crate::proc::module_loaded;
use crate::session::Session;
use crate::sys::until;
use crate::tests::Test;
use crate::{check, check_eq};
use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, PoisonError, RwLock};
use std::time::Duration;

tests! { "races":
    RACES, 60: [ every_seam_is_passed ];
    STOCK, 20: [ shipped_module_has_no_seams ];
}

/// Rounds of each pair in a quick run.
const FEW: u64 = 24;
/// The same where each round binds a device.
const FEW_BINDS: u64 = 12;
/// The same where each round loads the module, which takes ten times as long.
const FEW_LOADS: u64 = 6;

/// Where the module's parameters are.
const PARAMETERS: &str = "/sys/module/mapbuf/parameters";

/// The tests of all pairs.
pub fn pairs() -> impl Iterator<Item = Test> {
    let asked = std::env::var("MAPBUF_RACE_ROUNDS").ok();
    let asked: Option<u64> = asked.and_then(|text| text.parse().ok());
    OPERATIONS.iter().enumerate().flat_map(move |(at, first)| {
        OPERATIONS[at..].iter().map(move |second| {
            let pair = [first, second];
            let rules = Rules::of(pair);
            let few = match rules.unloads {
                0 if rules.device => FEW_BINDS,
                0 => FEW,
                _ => FEW_LOADS,
            };
            let rounds = asked.unwrap_or(few);
            Test {
                module: "races",
                function: format!("{}_x_{}", first.name, second.name).leak(),
                profiles: super::RACES,
                deadline: Duration::from_secs(60 + rounds),
                body: Box::leak(Box::new(move || race(pair, rounds))),
            }
        })
    })
}

/// So many rounds of a pair.
fn race(pair: [&'static Operation; 2], rounds: u64) -> Outcome {
    check!(
        std::fs::exists(format!("{PARAMETERS}/seam_us"))?,
        "the module was built without seams"
    );
    let rules = Rules::of(pair);
    if rules.unbinds {
        gone::survive()?;
    }
    let _expedited = (rules.unloads > 0).then(Expedited::new);
    let slot = RwLock::new(None);
    let (start, end) = (Barrier::new(3), Barrier::new(3));
    // A side that fails still comes to the end of its round; then it is over for both.
    let (failed, over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let sides: Vec<_> = (0..2)
            .map(|index| {
                let (slot, start, end) = (&slot, &start, &end);
                let (failed, over) = (&failed, &over);
                scope.spawn(move || -> Outcome {
                    let mut outcome = Ok(());
                    for round in 0.. {
                        start.wait();
                        if over.load(Ordering::Acquire) {
                            return outcome;
                        }
                        let side = Side {
                            index,
                            round,
                            rules,
                            partner: pair[1 - index],
                        };
                        // The others wait for this thread at the end of the round.
                        let result =
                            catch_unwind(AssertUnwindSafe(|| turn(pair[index], slot, &side)))
                                .unwrap_or_else(|panic| Err(panicked(&*panic)));
                        if result.is_err() {
                            failed.store(true, Ordering::Release);
                            outcome = outcome.and(result);
                        }
                        end.wait();
                    }
                    outcome
                })
            })
            .collect();
        let mut outcome = Ok(());
        for round in 0..rounds {
            let result = before(&slot, rules, round);
            if result.is_err() {
                outcome = result;
                break;
            }
            start.wait();
            end.wait();
            outcome = after(&slot, rules);
            if failed.load(Ordering::Acquire) || outcome.is_err() {
                break;
            }
        }
        over.store(true, Ordering::Release);
        start.wait();
        for side in sides {
            // What a side saw comes before what was left of it.
            let seen = side.join().unwrap_or_else(|panic| Err(panicked(&*panic)));
            outcome = seen.and(outcome);
        }
        outcome
    })
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    Failure::new(format!("a thread panicked: {}", text.unwrap_or("")))
}

type Slot = RwLock<Option<Arena>>;

/// Prepares a round.
fn before(slot: &Slot, rules: Rules, round: u64) -> Outcome {
    // Where the module is to go, somebody else must take the arena down, and every other time set it up.
    let arena = match rules.unloads {
        0 => Some(Arena::new(rules, round)?),
        1 if round % 2 == 0 => Some(Arena::new(rules, round)?),
        _ => None,
    };
    *slot.write().unwrap_or_else(PoisonError::into_inner) = arena;
    Ok(())
}

/// One operation of a round.
fn turn(operation: &Operation, slot: &Slot, side: &Side) -> Outcome {
    let run = match operation.act {
        Act::Outside(run) => return run(side),
        Act::Inside(run) => run,
    };
    if side.rules.unloads == 0 {
        let slot = slot.read().unwrap_or_else(PoisonError::into_inner);
        return slot.as_ref().map_or(Ok(()), |arena| run(arena, side));
    }
    let taken = slot.write().unwrap_or_else(PoisonError::into_inner).take();
    let arena = match taken {
        Some(arena) => arena,
        None => match Arena::new(side.rules, side.round) {
            Ok(arena) => arena,
            // The module was faster.
            Err(failure) if arena::is_gone(&failure) => return Ok(()),
            Err(failure) => return Err(failure),
        },
    };
    let result = run(&arena, side);
    result.and(arena.take_down())
}

/// Cleans up after a round, and sees that nothing is left.
fn after(slot: &Slot, rules: Rules) -> Outcome {
    let arena = slot.write().unwrap_or_else(PoisonError::into_inner).take();
    arena.map_or(Ok(()), Arena::take_down)?;
    if rules.unloads > 0 {
        check!(!module_loaded("mapbuf"), "the module stays");
        super::module::load_with("seam_us=60")?;
    }
    // Every open file, buffer and name holds the module. The last reference to a file is dropped in task work.
    let mut users = String::new();
    let alone = until(Duration::from_secs(3), || {
        users = std::fs::read_to_string("/sys/module/mapbuf/refcnt").unwrap_or_default();
        users.trim() == "0"
    });
    check!(alone, "{} still hold the module", users.trim());
    let session = Session::open()?;
    comes_to(&session, 0, 0)
}

// A seam that no operation passes shows nothing. What is counted while the module goes is gone with it.
fn every_seam_is_passed() -> Outcome {
    const UNLOADING: usize = 1;
    for first in OPERATIONS {
        if matches!(first.act, Act::Inside(_)) {
            race([first, first], 4)?;
        }
    }
    let text = std::fs::read_to_string(format!("{PARAMETERS}/seam_passed"))?;
    let missed: Vec<_> = text
        .trim()
        .split(',')
        .enumerate()
        .filter(|(seam, count)| *count == "0" && *seam != UNLOADING)
        .map(|(seam, _)| seam)
        .collect();
    check_eq!(missed, Vec::<usize>::new(), "seams that were not passed");
    Ok(())
}

fn shipped_module_has_no_seams() -> Outcome {
    let found: Vec<_> = std::fs::read_dir(PARAMETERS)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("seam"))
        .collect();
    check_eq!(found, Vec::<String>::new(), "parameters of seams");
    // The loader lists the functions of a module that others could be told apart by.
    let symbols = std::fs::read_to_string("/proc/kallsyms")?;
    check!(
        !symbols.contains("mapbuf_seam"),
        "the module has seams to wait at"
    );
    check!(
        symbols.contains("mapbuf_ram_bytes"),
        "/proc/kallsyms does not show the module"
    );
    Ok(())
}
