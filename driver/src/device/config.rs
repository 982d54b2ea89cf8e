// SPDX-License-Identifier: GPL-2.0

//! `CONFIG`: the configuration space of a bound device.

use super::DeviceFile;
use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire, //
    },
    policy::config,
};

impl DeviceFile {
    /// Reads a field into the request's value.
    ///
    /// # Errors
    ///
    /// [`Reason::ConfigOutside`], [`Reason::DeviceGone`], and those of [`Self::usable`].
    pub(crate) fn config_read(&self, request: &mut wire::Config) -> Result<(), Refusal> {
        self.usable()?;
        let (offset, width) = (request.offset, request.width);
        config::field(offset, width, self.device.told.config_bytes)?;
        request.value = self.device.while_bound(|hardware| {
            hardware
                .config_read(offset, width)
                .map_err(|_| Reason::DeviceGone.into())
        })?;
        Ok(())
    }

    /// Writes the request's value to a field, as far as user space may change it.
    ///
    /// # Errors
    ///
    /// [`Reason::ConfigReadOnly`], and those of [`Self::config_read`].
    pub(crate) fn config_write(&self, request: &wire::Config) -> Result<(), Refusal> {
        self.usable()?;
        let bytes = self.device.told.config_bytes;
        self.device.while_bound(|hardware| {
            // What cannot be read says that there is nothing.
            let mut word = |at| hardware.config_read(at, 4).unwrap_or(u32::MAX);
            let (offset, width, value) = (request.offset, request.width, request.value);
            match config::write(&mut word, bytes, offset, width, value)? {
                None => Ok(()),
                Some(write) => hardware
                    .config_write(write.offset, write.width, write.value)
                    .map_err(|_| Reason::DeviceGone.into()),
            }
        })
    }
}
