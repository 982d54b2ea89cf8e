// SPDX-License-Identifier: GPL-2.0

//! The NUMA nodes from which the caller may take memory.

use super::{
    frames::Frames,
    helpers::{
        mapbuf_frame_allowed,
        mapbuf_node_allowed, //
    }, //
};

/// Whether a node is one of the memory nodes of the caller's cpuset.
pub(crate) fn node_allowed(node: i32) -> bool {
    // SAFETY: The function takes any number.
    unsafe { mapbuf_node_allowed(node) }
}

/// Whether the first of these page frames lies on one of them.
pub(crate) fn frames_allowed(frames: Frames<'_>) -> bool {
    // SAFETY: The function takes any number; by the type's invariants the frame stays what it is meanwhile.
    unsafe { mapbuf_frame_allowed(frames.first() as usize) }
}
