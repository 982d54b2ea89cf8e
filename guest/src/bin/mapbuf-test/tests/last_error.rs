//! `LAST_ERROR`: the driver's last refusal, of this thread, in this session, and no other.

use crate::check::{core_refused, refused, Outcome};
use crate::session::{Session, KINDS};
use crate::sys::{EXEC, PAGE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{LastError, Operation, Reason};
use std::sync::Barrier;

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
    ];
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

// mm/mmap.c `do_mmap`: no length is EINVAL. arch/x86/kernel/sys_x86_64.c: an offset inside a page is EINVAL.
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
