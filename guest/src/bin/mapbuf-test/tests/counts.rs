//! The numbers of live objects in debugfs. The runner compares them before and after each test, and the sweeps of
//! failing memory after each failure, so they must be right.

use super::module;
use crate::check::{fails, Failure, Outcome};
use crate::session::Session;
use crate::sys::{self, Errno, PAGE};
use crate::{check, check_eq};
use mapbuf_abi::{Kind, Method};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;

tests! { "counts":
    STOCK, 20: [
        every_object_is_counted_while_it_lives,
        counts_are_for_root,
    ];
    RELOAD, 20: [
        open_count_outlives_the_module,
    ];
}

/// Where the driver says how many objects there are of each sort.
const COUNTS: &str = "/sys/kernel/debug/mapbuf";

/// What it says there; nothing where that cannot be read.
pub fn counts() -> BTreeMap<String, i64> {
    let files = fs::read_dir(COUNTS).into_iter().flatten().flatten();
    files
        .filter_map(|file| {
            let count = fs::read_to_string(file.path()).ok()?;
            let sort = file.file_name().into_string().ok()?;
            Some((sort, count.trim_end().parse().ok()?))
        })
        .collect()
}

/// What the driver holds, by its own books.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Held {
    buffers: u64,
    used_bytes: u64,
    pub objects: BTreeMap<String, i64>,
}

impl Held {
    pub fn now() -> Outcome<Self> {
        let query = Session::open()?.query()?;
        Ok(Self {
            buffers: query.buffers,
            used_bytes: query.used_bytes,
            objects: counts(),
        })
    }
}

/// That there are so many objects more than before, of the sorts that are named, and as many of the others.
#[track_caller]
pub fn more(before: &BTreeMap<String, i64>, than: &[(&str, i64)]) -> Outcome {
    let now = counts();
    check!(!now.is_empty(), "{COUNTS} is empty");
    let mut expected = before.clone();
    for (sort, count) in than {
        let number = expected.get_mut(*sort);
        *number.ok_or_else(|| Failure::new(format!("nothing counts {sort}")))? += count;
    }
    check_eq!(now, expected, "objects");
    Ok(())
}

fn every_object_is_counted_while_it_lives() -> Outcome {
    let before = counts();
    let session = Session::open()?;
    more(&before, &[("files", 1)])?;
    let buffer = session.alloc(Kind::Pages, 3 * PAGE)?;
    more(
        &before,
        &[("files", 1), ("buffers", 1), ("ids", 1), ("offsets", 1)],
    )?;
    session.offset(buffer.id, Method::Insert)?;
    session.offset(buffer.id, Method::Insert)?;
    more(
        &before,
        &[("files", 1), ("buffers", 1), ("ids", 1), ("offsets", 2)],
    )?;
    session.name(buffer.id, "counted", 0o600)?;
    let node = Session::open_named("counted", true)?;
    let mine = [
        ("files", 2),
        ("buffers", 1),
        ("ids", 1),
        ("offsets", 2),
        ("names", 1),
    ];
    more(&before, &mine)?;
    // A descriptor is one more reference to the buffer, and no object of ours.
    let dma_buf = session.export(buffer.id)?;
    more(&before, &mine)?;
    session.free(buffer.id)?;
    more(&before, &[("files", 2), ("buffers", 1), ("names", 1)])?;
    session.unname("counted")?;
    drop((session, node));
    more(&before, &[("buffers", 1)])?;
    drop(dma_buf);
    more(&before, &[])
}

fn counts_are_for_root() -> Outcome {
    for sort in counts().keys() {
        let path = format!("{COUNTS}/{sort}");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path)?.permissions());
        check_eq!(mode & 0o777, 0o400, "permissions of {path}");
    }
    sys::become_user(1000, 1000)?;
    let read = fs::read(format!("{COUNTS}/buffers"));
    fails(read.map_err(Errno::from), libc::EACCES)
}

// With `kernel::debugfs` the close would read memory of the module that is gone (driver/kmap/debugfs.rs).
fn open_count_outlives_the_module() -> Outcome {
    let mut open = File::open(format!("{COUNTS}/buffers"))?;
    sys::unload_module("mapbuf")?;
    check!(fs::metadata(COUNTS).is_err(), "{COUNTS} is left behind");
    let read = open.read(&mut [0; 8]);
    fails(read.map_err(Errno::from), libc::EIO)?;
    drop(open);
    module::load()
}
