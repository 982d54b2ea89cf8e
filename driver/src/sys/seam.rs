// SPDX-License-Identifier: GPL-2.0

//! Places between two steps where another thread must find everything in order. A module built with
//! `MAPBUF_SEAMS=y` waits there for a random time, so that another thread comes in between. Any other module has
//! no code for this.
//!
//! A new place needs a line here, a line where it is, and room in `seam.c`.

#[cfg(mapbuf_seams)]
extern "C" {
    fn mapbuf_seam(place: u32);
}

/// A place between two steps. All of them may sleep; some hold the lock that is named.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Seam {
    /// The module is being loaded: the node is there, no file can be opened yet.
    Loading = 0,
    /// The module goes: no file can be opened any more, what files share is still there.
    Unloading = 1,
    /// The node of a named buffer is being opened: the buffer was found.
    Opening = 2,
    /// A file is being released, and nothing of it is gone yet.
    Releasing = 3,
    /// Bytes are charged, memory is not there yet.
    Charged = 4,
    /// A charge is about to be given back; the memory is gone.
    Uncharging = 5,
    /// A buffer's last reference is gone, nothing else is.
    Dropping = 6,
    /// There is a new buffer without an id.
    Allocated = 7,
    /// Under the table's lock: a new buffer has an offset and no id yet.
    HalfInserted = 8,
    /// A new buffer has an id that the caller does not know yet.
    Untold = 9,
    /// An id is gone, its buffer is still held.
    Removed = 10,
    /// A buffer was found by its id.
    Found = 11,
    /// A buffer was found by its offset.
    Aimed = 12,
    /// A mapping was planned, and is not made yet.
    Planned = 13,
    /// The dma-buf was asked for a mapping.
    Entered = 14,
    /// Entries were made, and faults cannot be answered yet.
    Mapped = 15,
    /// A fault came.
    Faulted = 16,
    /// The caller knows a descriptor's number, and there is no descriptor yet.
    Numbered = 17,
    /// A buffer was found by its descriptor.
    Imported = 18,
    /// A name is taken, and its node is not there yet.
    NameFree = 19,
    /// A node is there, and the name does not know it yet.
    NodeMade = 20,
    /// A buffer has lost its name, and the name still has its buffer.
    HalfUnnamed = 21,
    /// A name and its node are gone, and the name's reference to the buffer is not.
    NameGone = 22,
}

/// Waits for a random time, in a module that has seams.
#[inline(always)]
pub(crate) fn pause(_place: Seam) {
    #[cfg(mapbuf_seams)]
    // SAFETY: The function takes any number and may sleep, as every place does.
    unsafe {
        mapbuf_seam(_place as u32);
    }
}
