// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Who may do what: depends on how a file was opened, on its node, and on the owner of a name.
//!
//! A capability is checked only where it decides: the check leaves traces in the kernel.

use super::abi::{
    reason::{
        Reason,
        Refusal, //
    },
    wire::Operation,
};

/// How a file was opened: the descriptor's mode counts, whatever else its holder could open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Access {
    /// It was opened for reading.
    pub read: bool,
    /// It was opened for writing.
    pub write: bool,
}

impl Access {
    /// Checks that the file was opened for writing, as this operation requires.
    ///
    /// # Errors
    ///
    /// [`Reason::ReadOnlyOpen`].
    pub fn writable(self, operation: Operation) -> Result<(), Refusal> {
        if self.write {
            Ok(())
        } else {
            Err(Reason::ReadOnlyOpen.with(&[u64::from(operation.number())]))
        }
    }

    /// Checks that the file was opened for both: the result of this operation can be read and written.
    ///
    /// # Errors
    ///
    /// [`Reason::ReadOnlyOpen`], [`Reason::WriteOnlyOpen`].
    pub fn both(self, operation: Operation) -> Result<(), Refusal> {
        self.writable(operation)?;
        if self.read {
            Ok(())
        } else {
            Err(Reason::WriteOnlyOpen.with(&[u64::from(operation.number())]))
        }
    }
}

/// The refusal of an operation that the node of a named buffer does not have.
pub fn needs_session(operation: Operation) -> Refusal {
    Reason::NeedsSession.with(&[u64::from(operation.number())])
}

/// The refusal of an operation that only the node of a bound device has.
pub fn needs_device(operation: Operation) -> Refusal {
    Reason::NeedsDevice.with(&[u64::from(operation.number())])
}

/// Checks that an id is 0, which stands for the buffer on the node of a named buffer.
///
/// # Errors
///
/// [`Reason::IdOnNamedNode`].
pub fn id_on_named_node(id: u32) -> Result<(), Refusal> {
    match id {
        0 => Ok(()),
        id => Err(Reason::IdOnNamedNode.with(&[u64::from(id)])),
    }
}

/// Checks that a node may be given to `owner` (a user and a group): the caller, or anybody if the caller may give files
/// away.
///
/// # Errors
///
/// [`Reason::OwnerNotPermitted`].
pub fn give_to(
    owner: (u32, u32),
    own: bool,
    may_give: impl FnOnce() -> bool,
) -> Result<(), Refusal> {
    if own || may_give() {
        Ok(())
    } else {
        Err(not_to_be_given(owner))
    }
}

/// The refusal of a user or group that does not exist.
pub fn not_to_be_given((uid, gid): (u32, u32)) -> Refusal {
    Reason::OwnerNotPermitted.with(&[u64::from(uid), u64::from(gid)])
}

/// Checks that `caller` may remove a name that `owner` gave.
///
/// # Errors
///
/// [`Reason::NotOwner`].
pub fn unname(owner: u32, caller: u32, admin: impl FnOnce() -> bool) -> Result<(), Refusal> {
    if owner == caller || admin() {
        Ok(())
    } else {
        Err(Reason::NotOwner.with(&[u64::from(owner)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never() -> bool {
        panic!("a privilege was asked for that does not matter");
    }

    #[test]
    fn an_open_gives_no_more_than_it_has() {
        let of = |read, write| Access { read, write };
        let (alloc, export) = (Operation::Alloc, Operation::Export);
        let (read_only, write_only) = (Reason::ReadOnlyOpen, Reason::WriteOnlyOpen);
        assert_eq!(of(true, true).both(export), Ok(()));
        assert_eq!(of(true, false).both(export), Err(read_only.with(&[7])));
        assert_eq!(of(false, true).both(export), Err(write_only.with(&[7])));
        assert_eq!(of(false, false).both(export), Err(read_only.with(&[7])));
        assert_eq!(of(false, true).writable(alloc), Ok(()));
        assert_eq!(of(true, false).writable(alloc), Err(read_only.with(&[1])));
        assert_eq!(u64::from(export.number()), 7);
    }

    #[test]
    fn named_nodes_have_one_buffer() {
        assert_eq!(id_on_named_node(0), Ok(()));
        let refusal = id_on_named_node(3).unwrap_err();
        assert_eq!(refusal, Reason::IdOnNamedNode.with(&[3]));
    }

    #[test]
    fn privileges_are_asked_for_where_they_decide() {
        assert_eq!(give_to((5, 6), true, never), Ok(()));
        assert_eq!(give_to((5, 6), false, || true), Ok(()));
        let refusal = give_to((5, 6), false, || false).unwrap_err();
        assert_eq!(refusal, Reason::OwnerNotPermitted.with(&[5, 6]));
        assert_eq!(unname(5, 5, never), Ok(()));
        assert_eq!(unname(5, 6, || true), Ok(()));
        let refusal = unname(5, 6, || false).unwrap_err();
        assert_eq!(refusal, Reason::NotOwner.with(&[5]));
    }
}
