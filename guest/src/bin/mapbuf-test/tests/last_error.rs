//! `LAST_ERROR`: the driver's last refusal, of this thread, in this session, and no other.

use super::lifetime::comes_to;
use super::reasons;
use crate::check::{core_refused, refused, Failure, Outcome};
use crate::session::{Session, KINDS};
use crate::sys::{self, EXEC, PAGE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{Kind, LastError, Operation, Reason};
use std::io::Read;
use std::sync::Barrier;
use std::time::Duration;

tests! { "last_error":
    STOCK, 20: [
        is_empty_at_first,
        tells_the_last_refusal_and_grows,
        stays_when_something_works,
        belongs_to_the_thread,
        belongs_to_the_session,
        is_right_for_many_threads_at_once,
        says_nothing_about_errors_of_the_core,
        reading_it_is_no_error,
        of_another_thread_is_told_when_it_is_named,
    ];
    STOCK, 60: [ of_a_killed_process_is_told_to_who_shares_its_file ];
}

fn is_empty_at_first() -> Outcome {
    let session = Session::open()?;
    let empty = LastError {
        size: size_of::<LastError>() as u32,
        ..Default::default()
    };
    check_eq!(session.last_error()?, empty, "LAST_ERROR of a new session");
    Ok(())
}

fn tells_the_last_refusal_and_grows() -> Outcome {
    let session = Session::open()?;
    let mut before = 0;
    for id in [7_u32, 8, 9] {
        refused(
            session.free(id),
            Operation::Free,
            Reason::NoSuchId,
            &[id.into()],
        )?;
        let last = session.last_error()?;
        check!(
            last.sequence > before,
            "sequence {} after {before}",
            last.sequence
        );
        check_eq!(last.operands, [id.into(), 0, 0, 0], "operands");
        before = last.sequence;
    }
    Ok(())
}

fn stays_when_something_works() -> Outcome {
    let session = Session::open()?;
    refused(session.free(7), Operation::Free, Reason::NoSuchId, &[7])?;
    let last = session.last_error()?;
    session.alloc(KINDS[0], PAGE)?;
    check_eq!(session.last_error()?, last, "LAST_ERROR after a success");
    Ok(())
}

fn reading_it_is_no_error() -> Outcome {
    let session = Session::open()?;
    refused(session.free(7), Operation::Free, Reason::NoSuchId, &[7])?;
    check_eq!(
        session.last_error()?,
        session.last_error()?,
        "LAST_ERROR, twice"
    );
    Ok(())
}

fn belongs_to_the_thread() -> Outcome {
    let session = Session::open()?;
    refused(session.free(7), Operation::Free, Reason::NoSuchId, &[7])?;
    let mine = session.last_error()?;
    let other = session.for_another_thread();
    let thread = std::thread::spawn(move || -> Outcome {
        check_eq!(
            other.last_error()?.sequence,
            0,
            "sequence for a thread without a refusal"
        );
        refused(other.info(9), Operation::Info, Reason::NoSuchId, &[9])
    });
    thread
        .join()
        .map_err(|_| "the thread panicked".to_owned())??;
    check_eq!(
        session.last_error()?,
        mine,
        "LAST_ERROR after another thread's refusal"
    );
    Ok(())
}

fn belongs_to_the_session() -> Outcome {
    let (one, two) = (Session::open()?, Session::open()?);
    refused(one.free(7), Operation::Free, Reason::NoSuchId, &[7])?;
    check_eq!(
        two.last_error()?.sequence,
        0,
        "sequence in a session without a refusal"
    );
    refused(two.info(9), Operation::Info, Reason::NoSuchId, &[9])?;
    check_eq!(
        one.last_error()?.operands[0],
        7,
        "operand in the first session"
    );
    Ok(())
}

fn is_right_for_many_threads_at_once() -> Outcome {
    const THREADS: u32 = 24;
    let session = Session::open()?;
    let barrier = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let session = session.for_another_thread();
                let barrier = &barrier;
                scope.spawn(move || -> Outcome {
                    for round in 1..=4 {
                        let id = round * 1000 + number;
                        // The driver's answer is looked at when all the others have made their error too.
                        let result = session.free(id);
                        barrier.wait();
                        let last = session.last_error();
                        barrier.wait();
                        refused(result, Operation::Free, Reason::NoSuchId, &[id.into()])?;
                        check_eq!(last?.operands[0], u64::from(id), "operand, later");
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread
                .join()
                .map_err(|_| "a thread panicked".to_owned())??;
        }
        Ok(())
    })
}

// `do_mmap` of mm/mmap.c: no length is EINVAL. arch/x86/kernel/sys_x86_64.c: an offset inside a page is EINVAL.
// mm/mprotect.c: a flag without its VM_MAY… is EACCES. None of these asks the driver.
fn says_nothing_about_errors_of_the_core() -> Outcome {
    let session = Session::open()?;
    let (buffer, map) = session.mapped(KINDS[0], PAGE)?;
    refused(session.free(7), Operation::Free, Reason::NoSuchId, &[7])?;
    let before = session.last_error()?;
    core_refused(session.map(0, RW, SHARED, buffer.mmap_offset), libc::EINVAL)?;
    core_refused(
        session.map(PAGE, RW, SHARED, buffer.mmap_offset + 8),
        libc::EINVAL,
    )?;
    core_refused(session.explain(map.protect(READ | EXEC)), libc::EACCES)?;
    check_eq!(
        session.last_error()?,
        before,
        "LAST_ERROR after errors of the core"
    );
    Ok(())
}

fn of_another_thread_is_told_when_it_is_named() -> Outcome {
    let session = Session::open()?;
    refused(session.free(7), Operation::Free, Reason::NoSuchId, &[7])?;
    let own = sys::thread_id() as u32;
    let theirs = session.for_another_thread();
    let other = std::thread::spawn(move || {
        let result = theirs.info(9);
        (sys::thread_id() as u32, result.map(drop))
    });
    let (other, result) = other.join().map_err(|_| Failure::new("it panicked"))?;
    refused(result, Operation::Info, Reason::NoSuchId, &[9])?;
    let told = |thread| -> Outcome<(u32, u64)> {
        let last = session.last_error_of(thread)?;
        Ok((last.operation, last.operands[0]))
    };
    check_eq!(told(0)?, (Operation::Free.number(), 7), "one's own");
    check_eq!(told(own)?, (Operation::Free.number(), 7), "the same, named");
    check_eq!(told(other)?, (Operation::Info.number(), 9), "the other's");
    // PID 1 has never used this file.
    check_eq!(session.last_error_of(1)?.sequence, 0, "a stranger's");
    Ok(())
}

// fatal_signal_pending (include/linux/sched/signal.h): SIGKILL alone, of which nothing that is killed lives to tell.
fn of_a_killed_process_is_told_to_who_shares_its_file() -> Outcome {
    const SIZE: usize = 1 << 30;
    let session = Session::open()?;
    for kind in [Kind::Pages, Kind::Vmalloc] {
        let mut last = session.last_error()?;
        // When it is in the middle of it depends on the machine.
        for delay in [20, 50, 100, 200, 5, 10, 400, 800, 20, 50, 100, 200] {
            let (mut ready, begins) = sys::pipe()?;
            let shared = session.for_another_thread();
            let child = sys::fork(|| {
                use std::io::Write;
                if (&begins).write_all(b"!").is_err() {
                    return 1;
                }
                // The memory goes with the process, or with its id, which is the session's.
                match shared.alloc(kind, SIZE) {
                    Ok(buffer) => i32::from(shared.free(buffer.id).is_err()),
                    Err(_) => 2,
                }
            })?;
            drop(begins);
            ready.read_exact(&mut [0])?;
            std::thread::sleep(Duration::from_millis(delay));
            child.kill(libc::SIGKILL);
            child.wait();
            // One that was done, and did not come to free it.
            for id in 1..99 {
                let _ = session.free(id);
            }
            last = session.last_error_of(child.pid as u32)?;
            if last.sequence > 0 {
                break;
            }
        }
        let reason = Reason::from_number(last.reason);
        check_eq!(reason, Some(Reason::Interrupted), "{kind:?}: the reason");
        check_eq!(
            last.operation,
            Operation::Alloc.number(),
            "{kind:?}: the operation"
        );
        check_eq!(last.errno, libc::EINTR, "{kind:?}: the errno");
        let [bytes, done, ..] = last.operands;
        check_eq!(bytes, SIZE as u64, "{kind:?}: bytes");
        check!(
            done < bytes,
            "{kind:?}: {done} of {bytes} bytes were gathered"
        );
        reasons::met(Reason::Interrupted);
    }
    comes_to(&session, 0, 0)
}
