// SPDX-License-Identifier: GPL-2.0

//! Which NUMA nodes the caller may have memory from.

use super::{
    frames::Frames,
    helpers::{
        mapbuf_frame_allowed,
        mapbuf_node_allowed, //
    }, //
};

/// Whether the caller's cpuset has a node among its memory nodes.
pub(crate) fn node_allowed(node: i32) -> bool {
    // SAFETY: The function takes any number.
    unsafe { mapbuf_node_allowed(node) }
}

/// Whether the first of these page frames lies on one of them.
pub(crate) fn frames_allowed(frames: Frames<'_>) -> bool {
    // SAFETY: The function takes any number; by the type's invariants the frame stays what it is meanwhile.
    unsafe { mapbuf_frame_allowed(frames.first() as usize) }
}
