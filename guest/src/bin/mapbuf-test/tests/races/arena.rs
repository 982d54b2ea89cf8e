//! What two operations of a round meet: a session, a buffer in it, a mapping.

use super::gone;
use super::operations::{Act, Operation};
use crate::check::{Failure, Outcome};
use crate::session::{alloc_request, Borrowed, Refused, Session, KINDS};
use crate::sys::{self, Errno, Map, PAGE, RW, SHARED};
use crate::tests::devices::{device, Bound};
use crate::{check, check_eq};
use mapbuf_abi::{device_state, ioctl, Alloc, Kind, Method, Reason};
use std::sync::atomic::{AtomicU32, Ordering};

/// The buffer's id.
pub const ID: u32 = 7;
/// The name that it may get.
pub const NAME: &str = "race";
/// Its pages, but for those that are mapped by a huge entry.
const FEW: usize = 4;
/// Pages of a huge entry.
const HUGE: usize = 512;
/// The session's descriptor: a number that no other is given, so that one that was closed stays closed.
const NUMBER: i32 = 400;

/// What the two operations of a pair may do to each other.
#[derive(Clone, Copy)]
pub struct Rules {
    /// One closes the session.
    pub closes: bool,
    /// One frees the buffer.
    pub frees: bool,
    /// One takes the name away.
    pub unnames: bool,
    /// One is killed in the middle of something.
    pub kills: bool,
    /// The session is one of a PCI device.
    pub device: bool,
    /// One takes that device away.
    pub unbinds: bool,
    /// How many unload the module.
    pub unloads: usize,
}

impl Rules {
    pub fn of(pair: [&Operation; 2]) -> Self {
        let has = |name| pair.iter().any(|operation| operation.name == name);
        Self {
            closes: has("close"),
            frees: has("free"),
            unnames: has("unname"),
            kills: has("kill"),
            device: pair.iter().any(|operation| operation.device),
            unbinds: has("unbind"),
            unloads: pair
                .iter()
                .filter(|operation| matches!(operation.act, Act::Outside(_)))
                .count(),
        }
    }
}

/// One of the two.
pub struct Side {
    /// 0 or 1; 2 is a child.
    pub index: usize,
    pub round: u64,
    pub rules: Rules,
    pub partner: &'static Operation,
}

pub struct Arena {
    pub kind: Kind,
    pub bytes: usize,
    /// The buffer's first offset.
    pub offset: u64,
    /// What each page of the buffer has in its first word, but for the page's number.
    mark: u64,
    /// A mapping of it that nobody has touched.
    pub map: Map,
    rules: Rules,
    /// The device.
    pub bound: Option<Bound>,
    /// How often the buffer was freed.
    pub freed: AtomicU32,
}

/// Whether a failure says no more than that the module is not there.
pub fn is_gone(failure: &Failure) -> bool {
    matches!(failure, Failure::Failed(why) if why == GONE)
}

const GONE: &str = "there is no module";

impl Arena {
    pub fn new(rules: Rules, round: u64) -> Outcome<Self> {
        let kind = KINDS[round as usize % KINDS.len()];
        let huge = kind == Kind::Pages && round % 8 == 1;
        let bytes = PAGE * if huge { HUGE } else { FEW };
        let bound = rules.device.then(Bound::edu).transpose()?;
        let opened = match &bound {
            Some(bound) => Session::open_path(bound.node(), true),
            None => Session::open(),
        };
        let opened = match opened {
            // devtmpfs has no node, or the node has no device (`chrdev_open` of fs/char_dev.c).
            Err(Errno(libc::ENOENT | libc::ENXIO | libc::ENODEV)) if rules.unloads > 0 => {
                return Err(Failure::Failed(GONE.to_owned()));
            }
            opened => opened?,
        };
        let request = Alloc {
            id: ID,
            ..alloc_request(kind, bytes as u64)
        };
        let buffer = opened.ioctl(ioctl::ALLOC, request)?;
        let mark = (round + 1) << 16;
        let filler = opened.map(bytes, RW, SHARED, buffer.mmap_offset)?;
        for page in 0..bytes / PAGE {
            check_eq!(filler.u64(page * PAGE), 0, "{kind:?}, a new page");
            filler.set_u64(page * PAGE, mark | page as u64);
        }
        drop(filler);
        // What goes with a device has no name.
        let nameless = rules.device && kind == Kind::Coherent;
        if rules.unnames && round % 4 < 3 && !nameless {
            opened.name(ID, NAME, 0o600)?;
        }
        let map = opened.map(bytes, RW, SHARED, buffer.mmap_offset)?;
        sys::duplicate(&opened, NUMBER)?;
        Ok(Self {
            kind,
            bytes,
            offset: buffer.mmap_offset,
            mark,
            map,
            rules,
            bound,
            freed: AtomicU32::new(0),
        })
    }

    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// The session, as one thread uses it. Its descriptor may be closed at any time.
    pub fn session(&self) -> Borrowed {
        Session::on_number(NUMBER)
    }

    /// Whether the session's device is gone; not where the session is.
    fn device_is_gone(&self) -> bool {
        let told = device(&self.session());
        told.is_ok_and(|told| told.state & device_state::PRESENT == 0)
    }

    /// Closes the session under everybody.
    pub fn close(&self) -> Outcome {
        match sys::close_number(NUMBER) {
            Ok(()) => Ok(()),
            Err(Errno(libc::EBADF)) if self.rules.closes => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A refusal that the other operation may be the cause of.
    #[track_caller]
    pub fn may(&self, refused: Refused, reasons: &[Reason]) -> Outcome {
        let told = refused
            .said
            .and_then(|said| Reason::from_number(said.reason));
        let closed = self.rules.closes
            && told.is_none()
            && (refused.errno == Errno(libc::EBADF)
                || reasons
                    .iter()
                    .any(|reason| refused.errno == Errno(reason.errno())));
        let mut reasons = reasons.to_vec();
        if self.rules.unbinds {
            reasons.push(Reason::DeviceGone);
        }
        if closed || told.is_some_and(|reason| reasons.contains(&reason)) {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{:?}: {refused}, may be one of {reasons:?}",
            self.kind
        )))
    }

    /// Whether the buffer goes with a device that may have been taken away.
    pub fn may_be_gone(&self) -> bool {
        self.rules.unbinds && self.kind == Kind::Coherent
    }

    /// Whether that has come to pass with a page of a mapping that was just touched.
    pub fn is_gone(&self, map: &Map, page: usize) -> bool {
        self.may_be_gone() && gone::is_gone(map, page)
    }

    /// That a mapping shows the buffer from its start on, and nothing else.
    #[track_caller]
    pub fn shows(&self, map: &Map) -> Outcome {
        for page in 0..map.len / PAGE {
            let (found, wanted) = (map.u64(page * PAGE), self.mark | page as u64);
            if found != wanted && !self.is_gone(map, page) {
                return Err(Failure::new(format!(
                    "{:?}: page {page} has {found:#x}, must have {wanted:#x}",
                    self.kind
                )));
            }
        }
        Ok(())
    }

    /// Pages spread over the buffer.
    pub fn some_pages(&self) -> impl Iterator<Item = usize> {
        (0..self.bytes / PAGE).step_by(self.bytes / PAGE / FEW)
    }

    /// The first word of the buffer, as bytes.
    pub fn first_bytes(&self) -> [u8; 8] {
        self.mark.to_ne_bytes()
    }

    /// Ways to map a buffer of this kind, one for each round.
    pub fn method(&self, round: u64) -> Method {
        let methods: &[Method] = match self.kind {
            Kind::Pages if self.bytes == HUGE * PAGE => &[Method::FaultHuge, Method::Auto],
            Kind::Vmalloc => &[
                Method::Auto,
                Method::Vmalloc,
                Method::Insert,
                Method::FaultPage,
                Method::RemapEach,
            ],
            Kind::Coherent if self.rules.device => &[Method::FaultPfn, Method::Auto],
            Kind::Coherent => &[Method::Dma, Method::FaultPfn, Method::Remap],
            _ => &[
                Method::Auto,
                Method::Insert,
                Method::MapPages,
                Method::FaultPage,
                Method::RemapEach,
            ],
        };
        let round = usize::try_from(round).unwrap_or(0) / (2 * KINDS.len());
        methods[round % methods.len()]
    }

    /// Takes everything away that is left, and looks at what the round has come to.
    pub fn take_down(self) -> Outcome {
        let freed = self.freed.load(Ordering::Relaxed);
        check!(freed <= 1, "the buffer was freed {freed} times");
        if self.rules.frees && !self.rules.closes && !self.rules.kills {
            check_eq!(freed, 1, "how often the buffer was freed");
        }
        // Whatever became of its id, the mapping shows the buffer.
        self.shows(&self.map)?;
        if self.may_be_gone() && self.device_is_gone() {
            for page in 0..self.bytes / PAGE {
                let gone = gone::is_gone(&self.map, page);
                check!(gone, "page {page} outlives its device");
            }
        }
        if let Err(error) = Session::open()?.unname(NAME) {
            let said = error.said.and_then(|said| Reason::from_number(said.reason));
            check_eq!(said, Some(Reason::NameUnknown), "why there is no name");
        }
        self.close()
    }
}
