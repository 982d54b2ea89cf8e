// SPDX-License-Identifier: GPL-2.0

//! What is the same on each bus when a device is bound, and when it goes.

use super::{
    hardware::Hardware,
    helpers::*,
    lend::Lender, //
};
use kernel::{
    bindings,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    types::Opaque, //
};

/// Who takes devices.
pub(crate) trait Binds: Send + Sync + Sized + 'static {
    /// What is kept of a device while it is bound.
    type Bound: Send + Sync + 'static;

    /// Somebody gives us a device. It is enabled.
    fn bind(this: ArcBorrow<'_, Self>, device: Arc<Lender>) -> Result<Arc<Self::Bound>>;

    /// It goes: nobody new is to find it. Afterwards its memory is taken back, and [`Lender::while_bound`] says so.
    fn unbind(this: ArcBorrow<'_, Self>, bound: Arc<Self::Bound>);
}

/// What a driver's structure, a `D`, lies in while it is registered: its callbacks find there who takes the devices.
#[repr(C)]
pub(super) struct Registered<D, B> {
    driver: Opaque<D>,
    binds: Arc<B>,
}

// SAFETY: Registrations belong to no thread, and what is shared can be sent.
unsafe impl<D, B: Binds> Send for Registered<D, B> {}
// SAFETY: There is nothing to change through a shared reference.
unsafe impl<D, B: Binds> Sync for Registered<D, B> {}

impl<D, B: Binds> Registered<D, B> {
    pub(super) fn new(driver: D, binds: Arc<B>) -> Result<KBox<Self>> {
        let driver = Opaque::new(driver);
        Ok(KBox::new(Self { driver, binds }, GFP_KERNEL)?)
    }

    pub(super) fn driver(&self) -> *mut D {
        self.driver.get()
    }

    /// Who takes the devices of a driver.
    ///
    /// # Safety
    ///
    /// `driver` is that of a [`Registered`] with these types, which stays for `'a`.
    pub(super) unsafe fn binds<'a>(driver: *mut D) -> ArcBorrow<'a, B> {
        // SAFETY: By the safety requirements; it is the first field.
        unsafe { (*driver.cast::<Self>()).binds.as_arc_borrow() }
    }
}

/// What a bound device has as its data: `with` is what its bus has, and goes last.
pub(super) struct Kept<B: Binds, W> {
    lender: Arc<Lender>,
    bound: Arc<B::Bound>,
    _with: W,
}

impl<B: Binds, W> Kept<B, W> {
    /// Binds a device that was enabled, and makes this its data.
    ///
    /// # Safety
    ///
    /// The device is being bound to us. When this has succeeded, [`Self::unbind`] is called with the same types before it is
    /// bound no more.
    pub(super) unsafe fn bind(binds: ArcBorrow<'_, B>, hardware: Hardware, with: W) -> Result {
        let device = hardware.as_ptr();
        // SAFETY: By the safety requirements; `unbind` revokes what it has lent, and so does a failure here.
        let lender = unsafe { Lender::new(hardware) }?;
        let bind = || {
            // Before: nothing may fail once it is bound.
            let room = KBox::<Self>::new_uninit(GFP_KERNEL)?;
            Ok((room, B::bind(binds, lender.clone())?))
        };
        // What the bus has goes after that: somebody may have been lent memory already.
        let (room, bound) = bind().inspect_err(|_: &Error| lender.revoke())?;
        let kept = room.write(Self {
            lender,
            bound,
            _with: with,
        });
        // SAFETY: The device is being bound to us, and the data is ours until `unbind`.
        unsafe { mapbuf_device_set_data(device, KBox::into_raw(kept).cast()) };
        Ok(())
    }

    /// The device goes.
    ///
    /// # Safety
    ///
    /// The device was bound by [`Self::bind`] for these types, and this is called once.
    pub(super) unsafe fn unbind(binds: ArcBorrow<'_, B>, device: *mut bindings::device) {
        // SAFETY: By the safety requirements; `bind` has stored it, and nobody takes it but this.
        let kept = unsafe { KBox::from_raw(mapbuf_device_data(device).cast::<Self>()) };
        let Self {
            lender,
            bound,
            _with,
        } = KBox::into_inner(kept);
        B::unbind(binds, bound);
        lender.revoke();
        // SAFETY: The device is still bound to us.
        unsafe { mapbuf_device_set_data(device, core::ptr::null_mut()) };
    }
}
