//! Who waits for an interrupt by `epoll` and by `io_uring`: an eventfd is a file like others.

use super::devices::Bound;
use super::interrupts::{registers, vector, Event, ACKNOWLEDGE, LONG, RAISE, SHORT};
use super::registers::set_master;
use crate::check::{refused, Failure, Outcome};
use crate::sys::{self, Map, PAGE};
use crate::{check, check_eq, skip};
use io_uring::{cqueue, opcode, squeue, types, IoUring};
use mapbuf_abi::{IrqAction, IrqKind, Operation, Reason};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

tests! { "waiting":
    DEVICES, 60: [
        epoll_is_woken_by_each_interrupt,
        io_uring_polls_and_reads_interrupts,
        unbind_wakes_epoll_and_io_uring,
    ];
}

/// What the kernel is to give back with an event.
const COOKIE: u64 = 0x6d61_7062_7566;
const READABLE: u32 = libc::POLLIN as u32;

/// An epoll instance that watches one eventfd.
struct Epoll(File);

impl Epoll {
    fn watching(event: &Event, more: i32) -> Outcome<Self> {
        // SAFETY: The call takes no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        check!(fd >= 0, "no epoll: {}", std::io::Error::last_os_error());
        let epoll = Self(sys::own(fd));
        let mut wanted = libc::epoll_event {
            events: (libc::EPOLLIN | more) as u32,
            u64: COOKIE,
        };
        // SAFETY: There is one structure.
        let added =
            unsafe { libc::epoll_ctl(fd, libc::EPOLL_CTL_ADD, event.as_raw_fd(), &mut wanted) };
        let error = std::io::Error::last_os_error();
        check_eq!(added, 0, "epoll_ctl: {error}");
        Ok(epoll)
    }

    fn woken_within(&self, milliseconds: i32) -> Outcome<bool> {
        let mut came = [libc::epoll_event { events: 0, u64: 0 }; 2];
        // SAFETY: There are two structures.
        let count =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), came.as_mut_ptr(), 2, milliseconds) };
        if count == 0 {
            return Ok(false);
        }
        let (events, cookie) = (came[0].events, came[0].u64);
        let expected = (1, libc::EPOLLIN as u32, COOKIE);
        check_eq!((count, events, cookie), expected, "what epoll says");
        Ok(true)
    }
}

fn epoll_is_woken_by_each_interrupt() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    set_master(&session)?;
    let edu = registers(&session)?;
    for kind in [IrqKind::Msi, IrqKind::Intx] {
        let (event, irq) = (Event::new()?, vector(&session, kind));
        irq.set(&event)?;
        let level = Epoll::watching(&event, 0)?;
        let edge = Epoll::watching(&event, libc::EPOLLET)?;
        for round in 1..=3 {
            check!(!level.woken_within(SHORT)?, "{kind:?}: woken by nothing");
            check!(!edge.woken_within(0)?, "{kind:?}: woken by nothing");
            edu.set_u32(RAISE, 1);
            for epoll in [&level, &edge] {
                check!(epoll.woken_within(LONG)?, "{kind:?}: round {round}");
            }
            // It is there until somebody reads it, and news once.
            check!(level.woken_within(0)?, "{kind:?}: forgotten, and not read");
            check!(!edge.woken_within(0)?, "{kind:?}: told twice");
            edu.set_u32(ACKNOWLEDGE, 1);
            irq.act(IrqAction::Unmask)?;
            // News, though the first one was not read.
            edu.set_u32(RAISE, 1);
            check!(edge.woken_within(LONG)?, "{kind:?}: the second one");
            edu.set_u32(ACKNOWLEDGE, 1);
            irq.act(IrqAction::Unmask)?;
            check_eq!(event.taken()?, 2, "{kind:?}: signals");
        }
        irq.unset()?;
    }
    Ok(())
}

/// Puts an entry into a ring, and tells the kernel.
fn submit(ring: &mut IoUring, entry: squeue::Entry, cookie: u64) -> Outcome {
    let entry = entry.user_data(cookie);
    // SAFETY: What the entries here name stays until the ring is gone: it is declared before the ring.
    let pushed = unsafe { ring.submission().push(&entry) };
    pushed.map_err(|_| Failure::new("the ring is full"))?;
    ring.submit()?;
    Ok(())
}

/// The answer that comes next: its cookie, its result and its flags.
fn answer(ring: &mut IoUring) -> Outcome<(u64, i32, u32)> {
    ring.submit_and_wait(1)?;
    let answer = ring.completion().next();
    let answer = answer.ok_or_else(|| Failure::new("no answer"))?;
    Ok((answer.user_data(), answer.result(), answer.flags()))
}

fn ring() -> Outcome<IoUring> {
    match IoUring::new(8) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            skip!("the kernel has no io_uring")
        }
        ring => Ok(ring?),
    }
}

fn io_uring_polls_and_reads_interrupts() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    set_master(&session)?;
    let edu = registers(&session)?;
    let (event, irq) = (Event::new()?, vector(&session, IrqKind::Msi));
    irq.set(&event)?;
    let bytes = Map::anonymous(PAGE)?;
    let mut ring = ring()?;
    let fd = types::Fd(event.as_raw_fd());
    let nothing = |ring: &mut IoUring| {
        thread::sleep(Duration::from_millis(SHORT as u64));
        check!(ring.completion().next().is_none(), "answered for nothing");
        Ok::<_, Failure>(())
    };
    for round in 1..=3 {
        submit(&mut ring, opcode::PollAdd::new(fd, READABLE).build(), 1)?;
        nothing(&mut ring)?;
        edu.set_u32(RAISE, 1);
        let (cookie, result, _) = answer(&mut ring)?;
        check_eq!((cookie, result as u32), (1, READABLE), "poll, {round}");
        check_eq!(event.taken()?, 1, "signals");
        edu.set_u32(ACKNOWLEDGE, 1);

        bytes.set_u64(0, 0);
        let read = opcode::Read::new(fd, bytes.start as *mut u8, 8);
        submit(&mut ring, read.build(), 2)?;
        nothing(&mut ring)?;
        edu.set_u32(RAISE, 1);
        let (cookie, result, _) = answer(&mut ring)?;
        check_eq!((cookie, result), (2, 8), "read, {round}");
        check_eq!(bytes.u64(0), 1, "signals that were read");
        edu.set_u32(ACKNOWLEDGE, 1);
    }
    // One request for all of them.
    let poll = opcode::PollAdd::new(fd, READABLE).multi(true);
    submit(&mut ring, poll.build(), 3)?;
    for round in 1..=5 {
        nothing(&mut ring)?;
        edu.set_u32(RAISE, 1);
        let (cookie, result, flags) = answer(&mut ring)?;
        check_eq!((cookie, result as u32), (3, READABLE), "multi, {round}");
        check!(cqueue::more(flags), "it has ended after round {round}");
        check_eq!(event.taken()?, 1, "signals");
        edu.set_u32(ACKNOWLEDGE, 1);
    }
    Ok(())
}

fn unbind_wakes_epoll_and_io_uring() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    set_master(&session)?;
    let (event, irq) = (Event::new()?, vector(&session, IrqKind::Msi));
    irq.set(&event)?;
    let epoll = Epoll::watching(&event, libc::EPOLLET)?;
    let bytes = Map::anonymous(PAGE)?;
    let mut ring = ring()?;
    let fd = types::Fd(event.as_raw_fd());
    submit(&mut ring, opcode::PollAdd::new(fd, READABLE).build(), 1)?;
    thread::scope(|scope| {
        let waits = scope.spawn(|| epoll.woken_within(LONG));
        thread::sleep(Duration::from_millis(SHORT as u64));
        bound.unbind()?;
        let woken = waits
            .join()
            .unwrap_or_else(|_| Err(Failure::new("panicked")));
        check!(woken?, "epoll was not woken");
        Ok::<_, Failure>(())
    })?;
    let (cookie, result, _) = answer(&mut ring)?;
    check_eq!((cookie, result as u32), (1, READABLE), "the poll's answer");
    let read = opcode::Read::new(fd, bytes.start as *mut u8, 8);
    submit(&mut ring, read.build(), 2)?;
    check_eq!(answer(&mut ring)?.1, 8, "what the read says");
    let result = irq.act(IrqAction::Trigger);
    refused(result, Operation::Irq, Reason::DeviceGone, &[])
}
