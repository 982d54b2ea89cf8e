//! A device that takes a buffer as a dma-buf: `dma_buf_attach` and `dma_buf_map_attachment`.
//!
//! The camera that takes any memory by the kernel's address is left out: `dma_buf_vmap` (drivers/dma-buf/dma-buf.c) warns
//! about a `vmap` that failed, for want of memory too.

use super::sweep::{sweep, Answers};
use crate::check::Outcome;
use crate::session::{Refused, Session};
use crate::sys::Errno;
use crate::tests::importers::{camera, BY_DMA_ADDRESS};
use crate::tests::sharing::{numbered, shows};
use crate::v4l2::Memory;
use mapbuf_abi::{Kind, Operation};
use std::cell::RefCell;

tests! { "faults":
    FAULTS, 240: [ camera_takes_a_buffer_with_failing_memory ];
}

fn camera_takes_a_buffer_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    let camera = RefCell::new(camera(BY_DMA_ADDRESS)?);
    for kind in [Kind::Contiguous, Kind::Coherent] {
        let (buffer, map) = numbered(&session, kind, 15)?;
        let dma_buf = session.export(buffer.id)?;
        sweep(
            &format!("QBUF of {}", kind.name()),
            Answers::Either(Operation::Attach),
            || {
                camera.borrow_mut().request(Memory::DmaBuf, 2)?;
                Ok(session.of_dma_bufs()?.sequence)
            },
            |before| {
                let queued = camera.borrow().queue(0, Some(&dma_buf));
                queued.map_err(|errno| Refused {
                    // `vb2_dc_map_dmabuf` (videobuf2-dma-contig.c) makes EINVAL of what the mapping says.
                    errno: match errno {
                        Errno(libc::EINVAL) => Errno(libc::ENOMEM),
                        errno => errno,
                    },
                    said: session
                        .of_dma_bufs()
                        .ok()
                        .filter(|last| last.sequence > *before),
                })
            },
            |_, _| {
                // Gives back what was taken, whether all of it was or a part.
                camera.borrow_mut().request(Memory::DmaBuf, 0)?;
                shows(&map, 0, 15, 0)
            },
        )?;
        drop((dma_buf, map));
        session.free(buffer.id)?;
    }
    Ok(())
}
