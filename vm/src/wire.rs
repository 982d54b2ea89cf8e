//! A wire between two machines: a network card on each, and whatever one sends the other gets.

use anyhow::{Context, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

/// The modules that the card takes in a guest.
pub const MODULES: [&str; 1] = ["virtio_net"];

/// One end of a wire.
#[derive(Clone, Debug)]
pub struct End {
    /// It has no name in any file system, and no port that another run could have taken.
    socket: Arc<UnixDatagram>,
    number: u8,
}

/// A wire; its two ends.
pub fn wire() -> Result<[End; 2]> {
    let (first, second) = UnixDatagram::pair().context("no pair of sockets can be made")?;
    let end = |socket, number| End {
        socket: Arc::new(socket),
        number,
    };
    Ok([end(first, 1), end(second, 2)])
}

impl End {
    /// What QEMU must inherit.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// QEMU's arguments: the card, whose address ends in 01 or 02.
    pub(crate) fn arguments(&self) -> [String; 4] {
        let socket = self.socket.as_raw_fd();
        [
            "-netdev".into(),
            format!("dgram,id=wire,local.type=fd,local.str={socket}"),
            "-device".into(),
            format!(
                "virtio-net-pci,netdev=wire,romfile=,mac=52:54:00:6d:62:{:02x}",
                self.number
            ),
        ]
    }
}
