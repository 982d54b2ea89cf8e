//! Memory that another driver made, for this one.

use crate::platform::{Bound, Shared};
use crate::Result;
use mapbuf::Direction;
use std::os::fd::AsFd;

impl Bound {
    /// What another driver exported as a dma-buf, with addresses for this function.
    pub fn imported(&self, dma_buf: &impl AsFd) -> Result<Shared> {
        let buffer = self.device.import_dma(dma_buf)?;
        let segments = buffer.device_segments()?;
        // The program has it first. Who sees which bytes when, its exporter alone knows.
        buffer.sync_begin(0..buffer.len(), Direction::Both)?;
        Self::shared(buffer, segments, false)
    }
}
