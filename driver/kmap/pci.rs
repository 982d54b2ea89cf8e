// SPDX-License-Identifier: GPL-2.0

//! Drivers of PCI devices, and the memory and registers behind a device's base address registers.
//!
//! The kernel crate's `pci::Driver` has another table and other lifetimes in 7.3 than in 7.2, and its `pci::Bar` gives no
//! frames to map.
//!
//! What is taken of a device may be kept by files that outlive its node. So a device that goes is waited for: it stays bound
//! until the last [`Bar`] is dropped. Who does not want to wait puts it into a [`Revocable`](super::revocable::Revocable).

use super::{
    backing::Backing,
    bytes::Bytes,
    cache::Cache,
    frames::{
        Attributes,
        Frames,
        PageRef, //
    },
    helpers::*,
    lease::Hold,
    this_module::this_module, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::{
        from_result,
        to_result, //
    },
    ffi::c_int,
    page::PAGE_SIZE,
    prelude::*,
    str::{
        CStr,
        CString, //
    },
    sync::{
        Arc,
        Completion, //
    },
    types::Opaque, //
};

/// The ids of the devices that a driver takes: a static that [`table`] declares.
#[repr(C)]
pub struct Ids<const N: usize> {
    ids: [bindings::pci_device_id; N],
    /// All zeros.
    end: bindings::pci_device_id,
}

// SAFETY: It is never changed.
unsafe impl<const N: usize> Sync for Ids<N> {}

impl<const N: usize> Ids<N> {
    /// Of all devices with one of these numbers of a vendor and of a device.
    pub const fn new(ids: [(u16, u16); N]) -> Self {
        let mut this = Self {
            ids: [const { pin_init::zeroed() }; N],
            end: pin_init::zeroed(),
        };
        let mut at = 0;
        while at < N {
            this.ids[at].vendor = ids[at].0 as u32;
            this.ids[at].device = ids[at].1 as u32;
            this.ids[at].subvendor = ANY;
            this.ids[at].subdevice = ANY;
            at += 1;
        }
        this
    }

    /// For [`Driver::IDS`].
    pub const fn table(&'static self) -> Table {
        // INVARIANT: `end` follows the ids, and `new` sets no other field to something than zeros.
        Table(self.ids.as_ptr())
    }
}

/// `PCI_ANY_ID`.
const ANY: u32 = !0;

/// The same for ids of any number.
///
/// # Invariants
///
/// Points to ids, the last of which is all zeros, and which are never changed.
#[derive(Clone, Copy)]
pub struct Table(*const bindings::pci_device_id);

/// Declares a table of ids, and tells `depmod` of it, so that the module is loaded for such a device (`MODULE_DEVICE_TABLE`).
#[allow(unused_macros, reason = "a driver of no PCI device has no table")]
macro_rules! table {
    (static $name:ident: $type:ty = $ids:expr;) => {
        // `do_table` of scripts/mod/file2alias.c looks for this name.
        #[export_name = concat!(
            "__mod_device_table__", line!(), "__kmod_", module_path!(), "__pci__", stringify!($name)
        )]
        static $name: $type = $ids;
    };
}
#[allow(unused_imports, reason = "a driver of no PCI device has no table")]
pub(crate) use table;

/// A driver of PCI devices; its value is what it keeps for one of them.
pub trait Driver: Send + Sync + Sized + 'static {
    /// Its name, in `/sys/bus/pci/drivers` and in `/proc/iomem`.
    const NAME: &'static CStr;

    /// The devices that it takes.
    const IDS: Table;

    /// A device is bound to it. The device is enabled, but for DMA.
    fn probe(device: &Device<'_>) -> Result<Self>;

    /// The device goes. Afterwards it is waited for who keeps something of it.
    fn remove(self) {}
}

/// A device that is being bound.
///
/// # Invariants
///
/// The device is being bound, and is not unbound before the last reference to `users` is gone.
pub struct Device<'a> {
    device: NonNull<bindings::pci_dev>,
    users: &'a Arc<Users>,
    name: &'static CStr,
}

impl Device<'_> {
    /// Its address, as `0000:00:04.0`.
    pub fn name(&self) -> &CStr {
        // SAFETY: By the type's invariants; the name of a device never changes once it was added.
        unsafe { CStr::from_char_ptr(kmap_helper_pci_name(self.device.as_ptr())) }
    }

    /// A text that names a node for it: `PREFIX-ADDRESS`.
    pub fn node_name(&self, prefix: &CStr) -> Result<CString> {
        let (prefix, name) = (prefix.to_str()?, self.name().to_str()?);
        CString::try_from_fmt(fmt!("{prefix}-{name}"))
    }

    /// Claims what a base address register leads to, and maps it for the kernel, with a cache mode other than
    /// [`Cache::Cached`]. The kernel's own accesses have `width` bits: 8, 16, 32 or 64.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: such a cache mode or width is not possible.
    /// - `ENODEV`: there is no memory, or it shares a page with others, which no program may see.
    /// - `EBUSY`: another driver has claimed it.
    /// - `ENOMEM`: the kernel cannot map it.
    pub fn bar(&self, index: u32, cache: Cache, width: u32) -> Result<Bar> {
        if !matches!(width, 8 | 16 | 32 | 64) || matches!(cache, Cache::Cached) {
            return Err(EINVAL);
        }
        let device = self.device.as_ptr();
        let mut start = 0;
        // SAFETY: By the type's invariants it is a device; any number may be asked about.
        let bytes = unsafe { kmap_helper_pci_memory(device, index, &mut start) };
        let bytes = usize::try_from(bytes)?;
        if bytes == 0 || (start | bytes as u64) % PAGE_SIZE as u64 != 0 {
            return Err(ENODEV);
        }
        // There is one with this number.
        let number = index as c_int;
        // SAFETY: By the type's invariants the device is ours to use; the name is static.
        to_result(unsafe {
            bindings::pci_request_region(device, number, self.name.as_char_ptr())
        })?;
        // SAFETY: It was just claimed.
        let view = unsafe {
            match cache {
                Cache::WriteCombined => bindings::pci_iomap_wc(device, number, 0),
                _ => bindings::pci_iomap(device, number, 0),
            }
        };
        let Some(view) = NonNull::new(view.cast()) else {
            // SAFETY: It was just claimed.
            unsafe { bindings::pci_release_region(device, number) };
            return Err(ENOMEM);
        };
        // INVARIANT: All of it was just done; the reference keeps the device from being unbound.
        Ok(Bar {
            device: self.device,
            number,
            first: start / PAGE_SIZE as u64,
            pages: bytes / PAGE_SIZE,
            view,
            cache,
            width,
            _users: self.users.clone(),
        })
    }
}

/// Who uses a device that is bound: it stays so until the last reference is gone.
struct Users(Arc<Completion>);

impl Drop for Users {
    fn drop(&mut self) {
        self.0.complete_all();
    }
}

/// What a base address register leads to, claimed and mapped for the kernel.
///
/// # Invariants
///
/// The device is bound to us as long as this lives, and region `number` of it is claimed: whole pages of memory, `pages` of
/// them, from frame `first` on. `view` is what `pci_iomap` or `pci_iomap_wc` gave for all of them, by `cache`. `width` is 8, 16, 32 or
/// 64.
pub struct Bar {
    device: NonNull<bindings::pci_dev>,
    number: c_int,
    first: u64,
    pages: usize,
    view: NonNull<u8>,
    cache: Cache,
    width: u32,
    /// Dropped last.
    _users: Arc<Users>,
}

// SAFETY: The claim and the view belong to no thread.
unsafe impl Send for Bar {}
// SAFETY: Access is by machine instructions whose races the device's users settle among themselves.
unsafe impl Sync for Bar {}

impl Drop for Bar {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants the device is still bound to us; nobody uses the view any more.
        unsafe {
            bindings::pci_iounmap(self.device.as_ptr(), self.view.as_ptr().cast());
            bindings::pci_release_region(self.device.as_ptr(), self.number);
        }
    }
}

impl Backing for Bar {
    fn len(&self) -> usize {
        self.pages
    }

    fn page(&self, _index: usize) -> Option<PageRef<'_>> {
        None
    }

    fn frames<'a>(&'a self, _hold: &'a Hold<'_>, index: usize, most: usize) -> Option<Frames<'a>> {
        let count = self.pages.checked_sub(index);
        let count = count.filter(|count| *count > 0)?.min(most);
        let first = self.first.checked_add(index as u64)?;
        // SAFETY: By the type's invariants they are the device's, and claimed, as long as we live.
        Some(unsafe { Frames::new(first, count) })
    }

    fn attributes(&self) -> Attributes<'_> {
        // SAFETY: By the type's invariants the kernel has it mapped there with this mode.
        unsafe { Attributes::new(self.cache, self.view.as_ptr()) }
    }

    fn bytes<'a>(
        &'a self,
        _hold: &'a Hold<'_>,
        index: usize,
        offset: usize,
        length: usize,
    ) -> Option<Bytes<'a>> {
        if index >= self.pages {
            return None;
        }
        let length = length.min(PAGE_SIZE.checked_sub(offset)?);
        // SAFETY: By the type's invariants the page lies in the view, and may be accessed by such words; the bytes stay in it.
        Some(unsafe {
            let address = self.view.as_ptr().add(index * PAGE_SIZE + offset);
            Bytes::by_words(address, length, self.width)
        })
    }

    /// None: it is no memory of the kernel's.
    fn address(&self) -> Option<NonNull<u8>> {
        None
    }
}

/// What is kept of a device while it is bound.
struct Bound<D> {
    data: D,
    users: Arc<Users>,
    unused: Arc<Completion>,
}

/// The registration as a driver; dropping it unbinds all devices.
///
/// # Invariants
///
/// The driver in the box is registered with the callbacks for `D`, and stays where it is.
pub struct Registration<D: Driver>(KBox<Opaque<bindings::pci_driver>>, PhantomData<D>);

// SAFETY: Registrations belong to no thread.
unsafe impl<D: Driver> Send for Registration<D> {}
// SAFETY: There is nothing to change through a shared reference.
unsafe impl<D: Driver> Sync for Registration<D> {}

impl<D: Driver> Registration<D> {
    /// Registers it. Devices that there are may be bound before this returns.
    pub fn new() -> Result<Self> {
        let driver = bindings::pci_driver {
            name: D::NAME.as_char_ptr(),
            id_table: D::IDS.0,
            probe: Some(Self::probe),
            remove: Some(Self::remove),
            ..Default::default()
        };
        let driver = KBox::new(Opaque::new(driver), GFP_KERNEL)?;
        // SAFETY: The driver is in a box, where it stays until it is unregistered; the name and the table are static.
        to_result(unsafe {
            bindings::__pci_register_driver(driver.get(), this_module(), D::NAME.as_char_ptr())
        })?;
        // INVARIANT: It was just registered.
        Ok(Self(driver, PhantomData))
    }

    /// # Safety
    ///
    /// The PCI core calls this to bind a device to a driver of a `Registration<D>`.
    unsafe extern "C" fn probe(
        device: *mut bindings::pci_dev,
        _id: *const bindings::pci_device_id,
    ) -> c_int {
        from_result(|| {
            let unused = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
            let users = Arc::new(Users(unused.clone()), GFP_KERNEL)?;
            // Before: nothing may fail once it is bound.
            let room = KBox::<Bound<D>>::new_uninit(GFP_KERNEL)?;
            // SAFETY: By the safety requirements it is ours to enable.
            to_result(unsafe { bindings::pci_enable_device(device) })?;
            // INVARIANT: By the safety requirements. A failure here, and `remove`, wait for the users.
            let probed = NonNull::new(device).ok_or(ENODEV).and_then(|device| {
                D::probe(&Device {
                    device,
                    users: &users,
                    name: D::NAME,
                })
            });
            match probed {
                Ok(data) => {
                    let bound = room.write(Bound {
                        data,
                        users,
                        unused,
                    });
                    // SAFETY: The data of a device that is being bound to us is ours until `remove`.
                    unsafe { kmap_helper_pci_set_data(device, KBox::into_raw(bound).cast()) };
                    Ok(0)
                }
                Err(error) => {
                    drop(users);
                    unused.wait_for_completion();
                    // SAFETY: It was enabled above.
                    unsafe { bindings::pci_disable_device(device) };
                    Err(error)
                }
            }
        })
    }

    /// # Safety
    ///
    /// The PCI core calls this to unbind a device that [`Self::probe`] has accepted.
    unsafe extern "C" fn remove(device: *mut bindings::pci_dev) {
        // SAFETY: By the safety requirements `probe` has stored the box, and nobody takes it but this.
        let bound = unsafe { KBox::from_raw(kmap_helper_pci_data(device).cast::<Bound<D>>()) };
        let Bound {
            data,
            users,
            unused,
        } = KBox::into_inner(bound);
        data.remove();
        drop(users);
        unused.wait_for_completion();
        // SAFETY: `probe` has enabled it.
        unsafe {
            kmap_helper_pci_set_data(device, core::ptr::null_mut());
            bindings::pci_disable_device(device);
        }
    }
}

impl<D: Driver> Drop for Registration<D> {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants; it calls `remove` for every device that is bound.
        unsafe { bindings::pci_unregister_driver(self.0.get()) };
    }
}
