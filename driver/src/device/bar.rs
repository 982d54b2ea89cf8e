// SPDX-License-Identifier: GPL-2.0

//! `BAR`: what the base address registers of a bound device lead to.

use super::DeviceFile;
use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            bar,
            Cache, //
        },
    },
    memory::{
        DeviceBar,
        Memory, //
    },
    sys::NoWindow,
};
use kernel::page::PAGE_SIZE;

/// Bits in an access where nothing else is said.
const WIDTH: u32 = 32;

impl DeviceFile {
    /// Bits of [`bar`] of a register.
    pub(crate) fn bar_flags(&self, index: u32) -> u32 {
        let info = self.device.told.bars.get(index as usize);
        info.map_or(0, |info| info.flags)
    }

    /// What a register leads to. `cache` is a [`Cache`] by its number; accesses of the kernel's own have `width` bits, or 32
    /// where that is 0.
    ///
    /// # Errors
    ///
    /// [`Reason::NoSuchBar`], [`Reason::UnknownCache`], [`Reason::BarCache`], [`Reason::BarWidth`], [`Reason::BarTaken`],
    /// [`Reason::OutOfMemory`], and those of [`Self::usable`].
    pub(crate) fn bar(&self, index: u32, cache: u32, width: u32) -> Result<Memory, Refusal> {
        self.usable()?;
        let none = Reason::NoSuchBar.with(&[u64::from(index)]);
        let flags = self.bar_flags(index);
        if flags == 0 {
            return Err(none);
        }
        let unknown = Reason::UnknownCache.with(&[u64::from(cache)]);
        let cache = Cache::from_number(cache).ok_or(unknown)?;
        let width = match width {
            0 => WIDTH,
            8 | 16 | 32 => width,
            64 if flags & bar::PORTS == 0 => width,
            _ => return Err(Reason::BarWidth.with(&[u64::from(width)])),
        };
        let shown = self.device.lender.show_bar(index as usize, cache, width);
        let lent = shown
            .ok_or(Reason::DeviceGone)?
            .map_err(|error| match error {
                NoWindow::None => none,
                NoWindow::Taken => Reason::BarTaken.with(&[u64::from(index)]),
                NoWindow::Cache => {
                    Reason::BarCache.with(&[u64::from(index), u64::from(cache.number())])
                }
                NoWindow::NoMemory => Reason::OutOfMemory.with(&[PAGE_SIZE as u64]),
            })?;
        Ok(Memory::Bar(DeviceBar::new(lent, self.device.clone())))
    }
}
