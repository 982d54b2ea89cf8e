//! A device that takes a buffer as a dma-buf: `dma_buf_attach`.
//!
//! It is the graphics card. The cameras are left out: `__prepare_dmabuf`
//! (drivers/media/common/videobuf2/videobuf2-core.c) keeps a reference for good when the attachment fails, and
//! `dma_buf_vmap` (drivers/dma-buf/dma-buf.c) warns about a `vmap` that failed, for want of memory too.

use super::sweep::{sweep, Answers};
use crate::check::Outcome;
use crate::drm::Card;
use crate::session::{Refused, Session, KINDS};
use crate::tests::sharing::{numbered, shows};
use mapbuf_abi::Operation;

tests! { "faults":
    FAULTS, 240: [ card_takes_a_buffer_with_failing_memory ];
}

fn card_takes_a_buffer_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    let card = Card::open()?;
    for kind in KINDS {
        let (buffer, map) = numbered(&session, kind, 15)?;
        let dma_buf = session.export(buffer.id)?;
        sweep(
            &format!("the card's import of {}", kind.name()),
            Answers::Either(Operation::ForeignAttach),
            || Ok(session.of_dma_bufs()?.sequence),
            |before| {
                card.import(&dma_buf).map_err(|errno| Refused {
                    errno,
                    said: session
                        .of_dma_bufs()
                        .ok()
                        .filter(|last| last.sequence > *before),
                })
            },
            |_, handle| {
                // When the answer cannot be copied, there is a handle whose number nobody was told (`drm_ioctl` takes nothing
                // back); it is the one that the next import answers with.
                let handle = handle.or_else(|_| card.import(&dma_buf))?;
                card.close(handle)?;
                shows(&map, 0, 15, 0)
            },
        )?;
        drop((dma_buf, map));
        session.free(buffer.id)?;
    }
    Ok(())
}
