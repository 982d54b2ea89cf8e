//! Memory of a device that is gone: an access of it becomes an error, where the program asks for that.
//!
//! A fault has no way to answer but by a signal. The handler here puts zeros of the process's own in the place of the whole
//! mapping, and notes that in a table, which is looked at after the access. Wayland's servers, whose clients' memory can go away
//! in the same way, do so too.

use crate::error::{Error, Result};
use mapbuf_abi::{Operation, Reason};
use std::io;
use std::ptr;
use std::sync::atomic::{compiler_fence, AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Mappings that can be watched at once.
const MOST: usize = 1024;

/// A mapping that is watched.
struct Place {
    /// Its address, or null.
    base: AtomicPtr<u8>,
    len: AtomicUsize,
    gone: AtomicBool,
}

static PLACES: [Place; MOST] = [const {
    Place {
        base: AtomicPtr::new(ptr::null_mut()),
        len: AtomicUsize::new(0),
        gone: AtomicBool::new(false),
    }
}; MOST];

/// Held while it changes which places are in use.
static CHANGES: Mutex<()> = Mutex::new(());

/// What was done about SIGBUS before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Has the accesses of every [`Mapping`](crate::Mapping) that is made from now on answer with
/// [`Reason::DeviceGone`] when the device is gone to which the memory belongs. Otherwise they raise
/// SIGBUS, which ends the process.
///
/// It installs a handler for SIGBUS, once for the process. Signals for other addresses are left to the handler that was there
/// before, or end the process as ever. Whoever installs another handler afterwards takes this one's place.
///
/// What was read together with the error is zero; what was written went nowhere. Accesses by
/// [`as_ptr`](crate::Mapping::as_ptr) read zeros and say nothing. At most 1024 mappings are watched at once; of further ones the
/// accesses raise SIGBUS.
///
/// # Errors
///
/// [`Error::System`] when the handler cannot be installed.
pub fn survive_removal() -> Result<()> {
    let _changes = CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
    if BEFORE.get().is_some() {
        return Ok(());
    }
    let failed = || Error::System {
        call: "sigaction",
        errno: io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or_default(),
    };
    // SAFETY: all of it may be zero.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: there is room for the answer.
    if unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &mut before) } != 0 {
        return Err(failed());
    }
    // The handler looks at it.
    let _ = BEFORE.set(before);
    // SAFETY: all of it may be zero.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handle as *const () as usize;
    // Not on the stack that a guard page may be the end of, if there is another one.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: the handler takes what `SA_SIGINFO` gives, and makes plain system calls only.
    match unsafe { libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(failed()),
    }
}

/// A mapping that is watched, until this is dropped. Without [`survive_removal`] nothing is.
#[derive(Debug)]
pub(crate) struct Watch(Option<&'static Place>);

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Place").field(&self.gone).finish()
    }
}

impl Watch {
    /// Watches `len` bytes at `base`.
    ///
    /// # Safety
    ///
    /// They are a mapping, which is there until [`Self::end`] or [`Self::pause`] is called, and to whose memory there are no
    /// references but those for which the caller of an `unsafe` function has vouched that its device stays.
    pub(crate) unsafe fn over(base: *mut u8, len: usize) -> Self {
        if BEFORE.get().is_none() {
            return Self(None);
        }
        let _changes = CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
        let free = |place: &&Place| place.base.load(Ordering::Relaxed).is_null();
        let place = PLACES.iter().find(free);
        if let Some(place) = place {
            place.gone.store(false, Ordering::Relaxed);
            place.len.store(len, Ordering::Relaxed);
            // Whoever sees the address sees the rest.
            place.base.store(base, Ordering::Release);
        }
        Self(place)
    }

    /// The mapping is about to go.
    pub(crate) fn end(&self) {
        if let Some(place) = self.0 {
            place.base.store(ptr::null_mut(), Ordering::Release);
        }
    }

    /// The mapping is about to be moved.
    pub(crate) fn pause(&self) {
        if let Some(place) = self.0 {
            place.len.store(0, Ordering::Release);
        }
    }

    /// It is there now.
    pub(crate) fn follow(&self, base: *mut u8, len: usize) {
        if let Some(place) = self.0 {
            place.base.store(base, Ordering::Release);
            place.len.store(len, Ordering::Release);
        }
    }

    /// That the access that was just made was one of the memory.
    pub(crate) fn check(&self, operation: Operation) -> Result<()> {
        // The handler ran in the middle of the access, in this thread or before another one's.
        compiler_fence(Ordering::SeqCst);
        match self.0 {
            Some(place) if place.gone.load(Ordering::Acquire) => Err(Error::Refused {
                operation,
                refusal: Reason::DeviceGone.with(&[]),
            }),
            _ => Ok(()),
        }
    }
}

extern "C" fn handle(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel gives a structure.
    let info = unsafe { &*info };
    // SAFETY: SIGBUS has an address.
    let address = unsafe { info.si_addr() } as usize;
    if info.si_code == libc::BUS_ADRERR {
        for place in &PLACES {
            let base = place.base.load(Ordering::Acquire);
            let len = place.len.load(Ordering::Relaxed);
            let within = address.checked_sub(base as usize);
            if base.is_null() || within.is_none_or(|within| within >= len) {
                continue;
            }
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            // Before anybody can read a zero.
            place.gone.store(true, Ordering::Release);
            // SAFETY: by the contract of `over` a mapping lies there, of which nobody relies on the bytes.
            let put = unsafe { libc::mmap(base.cast(), len, access, flags, -1, 0) };
            if put != libc::MAP_FAILED {
                return;
            }
        }
    }
    // The access is made again, and meets what was there before.
    if let Some(before) = BEFORE.get() {
        // SAFETY: it came from the kernel.
        unsafe { libc::sigaction(libc::SIGBUS, before, ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::volatile::Copies;
    use crate::Mapping;
    use rustix::fs::{ftruncate, memfd_create, MemfdFlags};
    use rustix::mm::{mmap, MapFlags, ProtFlags};
    use std::ptr::NonNull;

    const LEN: usize = 3 * 4096;

    /// A mapping of a file, which goes when the file gets shorter.
    fn mapping(file: impl std::os::fd::AsFd) -> Mapping {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel picks the address.
        let base =
            unsafe { mmap(ptr::null_mut(), LEN, access, MapFlags::SHARED, file, 0) }.unwrap();
        let base = NonNull::new(base.cast()).unwrap();
        // SAFETY: it is new.
        unsafe { Mapping::from_raw(base, LEN, Access::ReadWrite, Copies::Words) }
    }

    fn gone<T: std::fmt::Debug>(result: Result<T>, operation: Operation) {
        let error = result.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::DeviceGone), "{error}");
        assert!(matches!(error, Error::Refused { operation: of, .. } if of == operation));
    }

    #[test]
    fn accesses_of_what_is_gone_are_errors() {
        survive_removal().unwrap();
        survive_removal().unwrap();
        let file = memfd_create("gone", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, LEN as u64).unwrap();
        let (first, second, other) = (mapping(&file), mapping(&file), mapping(&file));
        let stays = memfd_create("stays", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&stays, LEN as u64).unwrap();
        let stays = mapping(&stays);
        stays.write(8, 7_u32).unwrap();
        first.write(4096, 1_u64).unwrap();
        assert_eq!(second.read::<u64>(4096).unwrap(), 1);
        ftruncate(&file, 0).unwrap();
        gone(first.read::<u64>(4096), Operation::Read);
        // The whole of it, and for ever.
        gone(first.read::<u8>(0), Operation::Read);
        gone(first.write(LEN - 8, 1_u64), Operation::Write);
        gone(first.copy_out(0, &mut [0; 16]), Operation::Read);
        gone(second.copy_in(0, &[0; 16]), Operation::Write);
        gone(other.fill(0, LEN, 1), Operation::Write);
        assert_eq!(stays.read::<u32>(8).unwrap(), 7);
        drop((first, second, other));
        // Places are used again, and begin anew.
        let file = memfd_create("again", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, LEN as u64).unwrap();
        for _ in 0..2 * MOST {
            let mut again = mapping(&file);
            assert_eq!(again.read::<u64>(0).unwrap(), 0);
            again.resize(4096).unwrap();
            again.write(0, 0_u64).unwrap();
        }
        let mut short = mapping(&file);
        short.resize(4096).unwrap();
        ftruncate(&file, 0).unwrap();
        gone(short.read::<u32>(0), Operation::Read);
    }
}
