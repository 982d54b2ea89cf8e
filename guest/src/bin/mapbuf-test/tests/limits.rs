//! Limits and accounting: a charge follows the buffer until it is gone.

use super::denial::AHEAD;
use super::lifetime::comes_to;
use super::names::OpenToAll;
use crate::check::{elsewhere, refused, Failure, Outcome};
use crate::proc::Parameter;
use crate::session::{Session, KINDS};
use crate::sys::{self, become_user, enter_user_namespace, fork, pipe, PAGE, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{Kind, Operation, Reason};
use std::fs;
use std::io::{Read, Write};

tests! { "limits":
    STOCK, 20: [
        user_limit_is_kept,
        limit_for_all_is_kept,
        users_are_counted_apart,
        charge_follows_a_buffer_that_is_freed_while_mapped,
        charge_follows_a_buffer_that_is_exported,
        charge_follows_a_named_buffer,
        charge_belongs_to_who_opened,
        user_namespace_multiplies_no_limit,
        refused_allocation_is_not_charged,
        number_of_buffers_is_limited,
        lowered_limit_takes_nothing_away,
        query_tells_the_limits,
        limits_have_sane_defaults,
        page_memory_is_charged_to_the_cgroup,
        cgroup_limit_is_an_error_and_not_a_killing,
    ];
}

const KIB: usize = 1 << 10;

/// As user 1000, in a process of its own, with the system node open to all.
pub fn as_user(body: impl FnOnce() -> Outcome) -> Outcome {
    let _open = OpenToAll::new()?;
    elsewhere(|| {
        become_user(1000, 1000)?;
        body()
    })
}

fn user_limit_is_kept() -> Outcome {
    let limit = 64 * KIB as u64;
    let _limit = Parameter::set("max_bytes_per_user", limit)?;
    as_user(|| {
        let session = Session::open()?;
        for kind in KINDS {
            let whole = session.alloc(kind, 64 * KIB)?;
            let operands = [PAGE as u64, limit, limit, 1000];
            refused(
                session.alloc(kind, 1),
                Operation::Alloc,
                Reason::OverUserLimit,
                &operands,
            )?;
            session.free(whole.id)?;
            comes_to(&session, 0, 0)?;
            let operands = [limit + PAGE as u64, 0, limit, 1000];
            refused(
                session.alloc(kind, 64 * KIB + 1),
                Operation::Alloc,
                Reason::OverUserLimit,
                &operands,
            )?;
        }
        Ok(())
    })
}

fn limit_for_all_is_kept() -> Outcome {
    let limit = 64 * KIB as u64;
    let _limit = Parameter::set("max_bytes", limit)?;
    let session = Session::open()?;
    for kind in KINDS {
        let half = session.alloc(kind, 32 * KIB)?;
        let operands = [limit / 2 + PAGE as u64, limit / 2, limit];
        refused(
            session.alloc(kind, 32 * KIB + 1),
            Operation::Alloc,
            Reason::OverLimit,
            &operands,
        )?;
        let other = session.alloc(kind, 32 * KIB)?;
        as_user(|| {
            let session = Session::open()?;
            refused(
                session.alloc(kind, 1),
                Operation::Alloc,
                Reason::OverLimit,
                &[PAGE as u64, limit, limit],
            )
        })?;
        session.free(half.id)?;
        session.free(other.id)?;
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

fn users_are_counted_apart() -> Outcome {
    let _limit = Parameter::set("max_bytes_per_user", 64 * KIB as u64)?;
    let session = Session::open()?;
    session.alloc(Kind::Pages, 64 * KIB)?;
    as_user(|| {
        let mine = Session::open()?;
        mine.alloc(Kind::Pages, 32 * KIB)?;
        let query = mine.query()?;
        check_eq!(
            (query.used_bytes as usize, query.used_bytes_by_user as usize),
            (96 * KIB, 32 * KIB),
            "use"
        );
        Ok(())
    })?;
    let query = session.query()?;
    check_eq!(
        query.used_bytes_by_user as usize,
        64 * KIB,
        "the first user's use"
    );
    Ok(())
}

fn charge_follows_a_buffer_that_is_freed_while_mapped() -> Outcome {
    let _limit = Parameter::set("max_bytes_per_user", 64 * KIB as u64)?;
    as_user(|| {
        let session = Session::open()?;
        for kind in KINDS {
            let (buffer, map) = session.mapped(kind, 64 * KIB)?;
            session.free(buffer.id)?;
            refused(
                session.alloc(kind, PAGE),
                Operation::Alloc,
                Reason::OverUserLimit,
                &[],
            )?;
            // A piece of the mapping holds all of it.
            let mut map = map;
            let rest = map.split_off(PAGE, PAGE);
            map.unmap_part(0, PAGE)?;
            map.unmap_part(2 * PAGE, 64 * KIB - 2 * PAGE)?;
            refused(
                session.alloc(kind, PAGE),
                Operation::Alloc,
                Reason::OverUserLimit,
                &[],
            )?;
            rest.unmap()?;
            comes_to(&session, 0, 0)?;
        }
        Ok(())
    })
}

fn charge_follows_a_buffer_that_is_exported() -> Outcome {
    let _limit = Parameter::set("max_bytes_per_user", 64 * KIB as u64)?;
    as_user(|| {
        for kind in KINDS {
            let session = Session::open()?;
            let buffer = session.alloc(kind, 64 * KIB)?;
            let dma_buf = session.export(buffer.id)?;
            drop(session);
            let session = Session::open()?;
            refused(
                session.alloc(kind, PAGE),
                Operation::Alloc,
                Reason::OverUserLimit,
                &[],
            )?;
            drop(dma_buf);
            comes_to(&session, 0, 0)?;
        }
        Ok(())
    })
}

fn charge_follows_a_named_buffer() -> Outcome {
    let _limit = Parameter::set("max_bytes_per_user", 64 * KIB as u64)?;
    as_user(|| {
        let session = Session::open()?;
        let buffer = session.alloc(Kind::Pages, 64 * KIB)?;
        session.name(buffer.id, "charged", 0o600)?;
        drop(session);
        let session = Session::open()?;
        let result = refused(
            session.alloc(Kind::Pages, PAGE),
            Operation::Alloc,
            Reason::OverUserLimit,
            &[],
        );
        session.unname("charged")?;
        result?;
        comes_to(&session, 0, 0)
    })
}

// A descriptor that is passed on, and a process that gives up rights, shift no charge to somebody else.
fn charge_belongs_to_who_opened() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, 8 * PAGE)?;
    as_user(|| {
        let given = session.alloc(Kind::Pages, PAGE)?;
        let roots = session.query()?;
        check_eq!(
            (roots.used_bytes_by_user as usize, roots.used_bytes as usize),
            (9 * PAGE, 9 * PAGE),
            "use by way of root's open file"
        );
        let mine = Session::open()?;
        mine.alloc(Kind::Pages, 2 * PAGE)?;
        let query = mine.query()?;
        check_eq!(
            (query.used_bytes_by_user as usize, query.used_bytes as usize),
            (2 * PAGE, 11 * PAGE),
            "use by way of a file of one's own"
        );
        drop(mine);
        session.free(given.id)?;
        session.free(buffer.id)?;
        comes_to(&session, 0, 0)?;
        check_eq!(session.query()?.used_bytes_by_user, 0, "root's use");
        Ok(())
    })
}

// A user namespace has tens of thousands of uids to give out; all of them together get what its owner may have.
fn user_namespace_multiplies_no_limit() -> Outcome {
    const LIMIT: usize = 64 * KIB;
    const USERS: u32 = 4;
    let _limit = Parameter::set("max_bytes_per_user", LIMIT as u64)?;
    let _open = OpenToAll::new()?;
    // The owner of the namespaces waits in them with this, and root maps the uids, as newuidmap does.
    let (mut ready, mut tell) = pipe()?;
    let (mut go, mut release) = pipe()?;
    let (mut count, mut sum) = pipe()?;
    let child = fork(move || {
        // All that it starts belongs to its group, and goes with it.
        sys::lead_group();
        let mut body = || -> Outcome<usize> {
            become_user(1000, 1000)?;
            enter_user_namespace()?;
            tell.write_all(&[0])?;
            go.read_exact(&mut [0])?;
            let mut got = 0;
            for uid in 0..USERS {
                // Each stays as long as this process, to hold what it has.
                let (mut read, mut write) = pipe()?;
                fork(move || {
                    let had = || -> Outcome<usize> {
                        become_user(uid, uid)?;
                        // A namespace in the namespace, whose owner is a uid of the first.
                        if uid == 1 {
                            enter_user_namespace()?;
                        }
                        let session = Session::open()?;
                        let mut had = 0;
                        while session.alloc(Kind::Pages, 16 * KIB).is_ok() {
                            had += 16 * KIB;
                        }
                        std::mem::forget(session);
                        Ok(had)
                    };
                    let had = had().unwrap_or(usize::MAX);
                    let _ = write.write_all(&had.to_ne_bytes());
                    loop {
                        std::thread::sleep(std::time::Duration::from_secs(1));
                    }
                })?;
                let mut bytes = [0; size_of::<usize>()];
                read.read_exact(&mut bytes)?;
                let had = usize::from_ne_bytes(bytes);
                check!(had != usize::MAX, "uid {uid} of the namespace got nowhere");
                got += had;
            }
            Ok(got)
        };
        let got = body().unwrap_or(usize::MAX);
        let _ = sum.write_all(&got.to_ne_bytes());
        loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
    })?;
    let result = (|| {
        ready.read_exact(&mut [0])?;
        for map in ["uid_map", "gid_map"] {
            // 65,536 uids from 100000 on, as /etc/subuid gives them out.
            let line = "0 100000 65536";
            fs::write(format!("/proc/{}/{map}", child.pid), line)?;
        }
        release.write_all(&[0])?;
        let mut bytes = [0; size_of::<usize>()];
        count.read_exact(&mut bytes)?;
        let got = usize::from_ne_bytes(bytes);
        check!(got != usize::MAX, "the namespace could not be set up");
        check_eq!(got, LIMIT, "bytes that {USERS} users of one namespace got");
        Ok(())
    })();
    child.kill_group();
    child.wait();
    result?;
    comes_to(&Session::open()?, 0, 0)
}

fn refused_allocation_is_not_charged() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let request = mapbuf_abi::Alloc {
            numa_node: 5,
            ..crate::session::alloc_request(kind, 4096)
        };
        refused(
            session.ioctl(mapbuf_abi::ioctl::ALLOC, request),
            Operation::Alloc,
            Reason::NoSuchNode,
            &[5],
        )?;
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

fn number_of_buffers_is_limited() -> Outcome {
    let _limit = Parameter::set("max_buffers", 5)?;
    let session = Session::open()?;
    let mut last = 0;
    for number in 0..5 {
        last = session.alloc(KINDS[number % 4], PAGE)?.id;
    }
    refused(
        session.alloc(Kind::Pages, PAGE),
        Operation::Alloc,
        Reason::TooManyBuffers,
        &[5],
    )?;
    Session::open()?.alloc(Kind::Pages, PAGE)?;
    session.free(last)?;
    session.alloc(Kind::Pages, PAGE)?;
    Ok(())
}

fn lowered_limit_takes_nothing_away() -> Outcome {
    let session = Session::open()?;
    let (buffer, map) = session.mapped(Kind::Pages, 16 * PAGE)?;
    {
        let _limit = Parameter::set("max_bytes", 4 * PAGE as u64)?;
        let operands = [PAGE, 16 * PAGE, 4 * PAGE].map(|value| value as u64);
        refused(
            session.alloc(Kind::Pages, 1),
            Operation::Alloc,
            Reason::OverLimit,
            &operands,
        )?;
        map.fill(1);
        session.map(16 * PAGE, RW, SHARED, buffer.mmap_offset)?;
    }
    session.alloc(Kind::Pages, 1)?;
    Ok(())
}

fn query_tells_the_limits() -> Outcome {
    let session = Session::open()?;
    let _all = Parameter::set("max_bytes", 10 << 20)?;
    let _user = Parameter::set("max_bytes_per_user", 6 << 20)?;
    let query = session.query()?;
    check_eq!(
        (query.max_bytes, query.max_bytes_per_user),
        (10 << 20, 6 << 20),
        "limits"
    );
    check_eq!(query.max_buffer_bytes, 6 << 20, "largest buffer");
    Ok(())
}

// Half of the machine's memory, for all and for each.
fn limits_have_sane_defaults() -> Outcome {
    let query = Session::open()?.query()?;
    let memory = crate::proc::meminfo("MemTotal") << 10;
    for limit in [query.max_bytes, query.max_bytes_per_user] {
        check!(
            limit > memory / 3 && limit < memory / 4 * 3,
            "limit {limit} of {memory}"
        );
    }
    Ok(())
}

/// A memory cgroup for one process.
pub struct Group(pub String);

impl Group {
    pub fn new(name: &str) -> Outcome<Self> {
        let root = "/cgroup-of-the-test";
        fs::create_dir_all(root)?;
        if !fs::exists(format!("{root}/cgroup.procs"))? {
            sys::mount("cgroup2", root)?;
        }
        fs::write(format!("{root}/cgroup.subtree_control"), "+memory")?;
        let group = Self(format!("{root}/{name}"));
        fs::create_dir_all(&group.0)?;
        Ok(group)
    }

    pub fn enter(&self) -> Outcome {
        Ok(fs::write(format!("{}/cgroup.procs", self.0), "0")?)
    }

    pub fn read(&self, file: &str) -> Outcome<String> {
        Ok(fs::read_to_string(format!("{}/{file}", self.0))?)
    }

    pub fn current(&self) -> Outcome<usize> {
        self.read("memory.current")?
            .trim()
            .parse()
            .map_err(|_| Failure::new("memory.current is no number"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It stays only if somebody is in it, and harms nobody.
        let _ = fs::remove_dir(&self.0);
    }
}

// GFP_KERNEL_ACCOUNT: the pages count like the process's own.
fn page_memory_is_charged_to_the_cgroup() -> Outcome {
    const SIZE: usize = 8 << 20;
    let group = Group::new("charged")?;
    for kind in [Kind::Vmalloc, Kind::Pages] {
        elsewhere(|| {
            group.enter()?;
            let session = Session::open()?;
            let before = group.current()?;
            let buffer = session.alloc(kind, SIZE)?;
            let with = group.current()?;
            check!(
                with + AHEAD >= before + SIZE,
                "{kind:?}: memory.current went from {before} to {with}"
            );
            session.free(buffer.id)?;
            comes_to(&session, 0, 0)?;
            let after = group.current()?;
            check!(
                after < before + SIZE / 4,
                "{kind:?}: memory.current was {before}, then {with}, is {after}"
            );
            Ok(())
        })?;
    }
    Ok(())
}

fn cgroup_limit_is_an_error_and_not_a_killing() -> Outcome {
    let group = Group::new("limited")?;
    fs::write(format!("{}/memory.max", group.0), "16M")?;
    for kind in [Kind::Vmalloc, Kind::Pages, Kind::Contiguous] {
        let size = if kind == Kind::Contiguous {
            4 << 20
        } else {
            64 << 20
        };
        elsewhere(|| {
            group.enter()?;
            let session = Session::open()?;
            let mut result = Ok(());
            for _ in 0..8 {
                result = session.alloc(kind, size).map(drop);
                if result.is_err() {
                    break;
                }
            }
            // Not OutOfMemory, nor NoContiguousMemory: the machine has plenty, and `cma=` would not help.
            let operands = [size as u64, 16 << 20];
            refused(result, Operation::Alloc, Reason::OverCgroupLimit, &operands)?;
            let left = session.last_error()?.operands[2];
            check!(left < size as u64, "{left} bytes are left for {size}");
            Ok(())
        })?;
    }
    let killed = group.read("memory.events")?;
    check!(
        killed.lines().any(|line| line == "oom_kill 0"),
        "memory.events: {killed}"
    );
    Ok(())
}
