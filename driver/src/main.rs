// SPDX-License-Identifier: GPL-2.0

//! mapbuf: kernel memory of every kind in user space.
//!
//! How a request goes through this driver: [`file`] takes it from an open file of a node; [`session`] or
//! [`named`] finds the [`buffer`]; `policy` decides how to serve it, or why not; [`memory`] and [`mapping`]
//! carry it out; [`refusals`] keeps the reason for the thread that asked. [`sys::counts`] counts live objects.
//! [`pinned`] keeps the pages of freed buffers that somebody still refers to.
//!
//! # Locks, in the order in which they are taken
//!
//! 1. `mm->mmap_lock` (the kernel's: `mmap`, faults), `dma_buf->resv` (the kernel's: `vmap`);
//! 2. `Driver::regions`;
//! 3. `Driver::names`;
//! 4. `Session::table`, `Driver::devices`, `BoundDevice::users`, `BoundDevice::node`, then the `Lender`'s `state`;
//! 5. `Accounts::users`, `Buffer::name`, `Refusals::records`, `Pinned::first`, `Gate::state`, `Lease::state`: none of our
//!    other locks is taken under them.
//!
//! None of our locks is held while user memory is copied, since a fault there takes the first. The test `faults::locks`
//! compares this list with what lockdep has seen.

mod accounts;
mod buffer;
mod device;
mod file;
mod heaps;
mod kunit;
mod mapping;
mod memory;
mod named;
mod object;
mod pinned;
mod places;
mod reach;
mod refusals;

mod region;
mod runs;
mod session;
mod sys;

/// What any driver that maps memory could use.
#[path = "../kmap/mod.rs"]
pub mod kmap;

/// The interface, shared with user space.
#[expect(unreachable_pub, reason = "public in the crate that it is elsewhere")]
#[path = "../../abi/src"]
mod abi {
    pub(crate) mod reason;
    pub(crate) mod wire;
}

/// The rules, shared with the host's tests.
#[expect(unreachable_pub, reason = "public in the crate that it is elsewhere")]
#[path = "../../policy/src"]
mod policy {
    use super::abi;

    pub(crate) mod config;
    pub(crate) mod limit;
    pub(crate) mod place;
    pub(crate) mod plan;
    pub(crate) mod region;
    pub(crate) mod request;
    pub(crate) mod right;
}

use kernel::{
    prelude::*,
    str::CString,
    sync::Arc, //
};

module! {
    type: Mapbuf,
    name: "mapbuf",
    authors: ["the mapbuf authors"],
    description: "Kernel memory of every kind in user space",
    license: "GPL",
    imports_ns: ["DMA_BUF", "DMA_BUF_HEAP"],
}

/// What all open files share.
#[pin_data]
pub(crate) struct Driver {
    #[pin]
    names: kernel::sync::Mutex<named::Names>,
    #[pin]
    accounts: accounts::Accounts,
    #[pin]
    regions: kernel::sync::Mutex<region::Regions>,
    #[pin]
    devices: kernel::sync::Mutex<device::Devices>,
    /// Pages of freed buffers that somebody still refers to.
    #[pin]
    pinned: sys::later::Later<pinned::Pinned>,
    /// Refusals of requests that came through a dma-buf, without an open file of ours.
    #[pin]
    of_dma_bufs: refusals::Refusals,
    device: Arc<sys::dma::SystemDevice>,
    class: Arc<sys::node::Class>,
    numbers: Arc<sys::chardev::Numbers>,
    _counts: sys::debugfs::Directory,
}

impl Driver {
    fn new() -> Result<Arc<Self>> {
        let regions = region::Regions::declared()?;
        let numbers = sys::chardev::Numbers::reserve()?;
        let class = sys::node::Class::register()?;
        let device = Arc::new(sys::dma::SystemDevice::register(c"mapbuf")?, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                names <- kernel::new_mutex!(named::Names::new(), "mapbuf_names"),
                accounts <- accounts::Accounts::new(),
                regions <- kernel::new_mutex!(regions, "mapbuf_regions"),
                devices <- kernel::new_mutex!(device::Devices::new(), "mapbuf_devices"),
                pinned <- sys::later::Later::new(pinned::Pinned::new()),
                of_dma_bufs <- refusals::Refusals::new(),
                device,
                class,
                numbers,
                _counts: sys::counts::show(),
            }),
            GFP_KERNEL,
        )
    }
}

/// The loaded module. Fields are dropped in their order: no device, no new files, no node, then the rest.
struct Mapbuf {
    _pci: sys::pci::PciDriver<Driver>,
    _platform: sys::platform::PlatformDriver<Driver>,
    _files: sys::chardev::CharDevices<file::MapbufFile>,
    _system: sys::node::Node<sys::node::NoAttributes>,
    _pinned: pinned::ForgottenAtUnload,
    _driver: Arc<Driver>,
}

impl kernel::Module for Mapbuf {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let driver = Driver::new()?;
        let system = sys::node::Node::new(
            &driver.class,
            &driver.numbers,
            sys::chardev::SYSTEM_MINOR,
            sys::node::NodeName {
                sysfs: CString::try_from_fmt(fmt!("system"))?,
                path: CString::try_from_fmt(fmt!("mapbuf/system"))?,
            },
            sys::node::Ownership {
                uid: 0,
                gid: 0,
                mode: 0o660,
            },
            None,
            true,
        )?;
        sys::seam::pause(sys::seam::Seam::Loading);
        // Their nodes cannot be opened yet, so that they can be unbound should the rest fail.
        let pci = sys::pci::PciDriver::register(driver.clone())?;
        let platform = sys::platform::PlatformDriver::register(driver.clone())?;
        // Last: files can be opened from here on, so nothing may fail any more.
        let files = sys::chardev::CharDevices::register(&driver.numbers, driver.clone())?;
        driver.regions.lock().register(&driver);
        heaps::add(&driver);
        Ok(Self {
            _pci: pci,
            _platform: platform,
            _files: files,
            _system: system,
            _pinned: pinned::ForgottenAtUnload::new(driver.clone()),
            _driver: driver,
        })
    }
}
