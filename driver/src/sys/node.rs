// SPDX-License-Identifier: GPL-2.0

//! Nodes under `/dev/mapbuf/`, made by devtmpfs with an owner and a mode, and their attributes in sysfs.

use super::{
    chardev::Numbers,
    helpers::mapbuf_set_owner, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::to_result,
    ffi::c_char,
    prelude::*,
    str::{
        as_char_ptr_in_const_context,
        CString, //
    },
    sync::Arc,
    types::Opaque, //
};

/// The class `/sys/class/mapbuf`.
///
/// # Invariants
///
/// [`CLASS`] is registered.
pub(crate) struct Class(());

/// A class as a static.
struct Static(bindings::class);

// SAFETY: The struct is only read; what the kernel keeps for a class lies elsewhere, behind locks of its own
// (`struct subsys_private` of `drivers/base/base.h`).
unsafe impl Sync for Static {}

static CLASS: Static = Static(bindings::class {
    name: as_char_ptr_in_const_context(c"mapbuf"),
    ..pin_init::zeroed()
});

impl Class {
    pub(crate) fn register() -> Result<Arc<Self>> {
        // SAFETY: The class is static.
        to_result(unsafe { bindings::class_register(&CLASS.0) })?;
        // INVARIANT: It was just registered, and is not any more even if there is no memory for the `Arc`.
        Ok(Arc::new(Self(()), GFP_KERNEL)?)
    }
}

impl Drop for Class {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants.
        unsafe { bindings::class_unregister(&CLASS.0) };
    }
}

/// An attribute of a named buffer's node in sysfs.
#[derive(Clone, Copy)]
pub(crate) enum Attribute {
    Size,
    Kind,
    Cache,
    Mappings,
    DmaAddress,
    Device,
}

impl Attribute {
    const ALL: [Self; 6] = [
        Self::Size,
        Self::Kind,
        Self::Cache,
        Self::Mappings,
        Self::DmaAddress,
        Self::Device,
    ];

    /// Who may read it: everybody, except where counting takes long and locks the buffer's mappings meanwhile.
    const fn mode(self) -> bindings::umode_t {
        match self {
            Self::Mappings => 0o400,
            Self::Size | Self::Kind | Self::Cache | Self::DmaAddress | Self::Device => 0o444,
        }
    }

    const fn name(self) -> &'static CStr {
        match self {
            Self::Size => c"size",
            Self::Kind => c"kind",
            Self::Cache => c"cache",
            Self::Mappings => c"mappings",
            Self::DmaAddress => c"dma_address",
            Self::Device => c"for_device",
        }
    }
}

/// What sysfs shows for a node's buffer.
pub(crate) trait Attributes: Send + Sync + 'static {
    /// The attribute's text, one line.
    fn show(&self, attribute: Attribute) -> Result<CString>;
}

/// Those of a node that is no buffer's: there are none.
pub(crate) enum NoAttributes {}

impl Attributes for NoAttributes {
    fn show(&self, _attribute: Attribute) -> Result<CString> {
        match *self {}
    }
}

/// Who may use a node, by uid and gid of the initial user namespace.
#[derive(Clone, Copy)]
pub(crate) struct Ownership {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u16,
}

/// A node's names in sysfs and in `/dev`.
pub(crate) struct NodeName {
    /// In sysfs, where a `!` stands for a `/`.
    pub(crate) sysfs: CString,
    /// Below `/dev/`.
    pub(crate) path: CString,
}

/// A node and its entry in sysfs, both removed when it is dropped.
///
/// # Invariants
///
/// Points to the `device` in a `NodeDevice<A>` that is added; a reference on it is ours.
pub(crate) struct Node<A: Attributes> {
    device: NonNull<bindings::device>,
    _attributes: core::marker::PhantomData<A>,
}

// SAFETY: Devices belong to no thread.
unsafe impl<A: Attributes> Send for Node<A> {}
// SAFETY: There is nothing to change through a shared reference.
unsafe impl<A: Attributes> Sync for Node<A> {}

#[repr(C)]
struct NodeDevice<A> {
    device: Opaque<bindings::device>,
    /// Below `/dev/`.
    path: CString,
    ownership: Ownership,
    attributes: Option<A>,
    _class: Arc<Class>,
    _numbers: Arc<Numbers>,
}

impl<A: Attributes> Node<A> {
    /// Makes a node with this minor number. A node for a buffer has attributes. With `announced`, user space gets an
    /// event for it.
    pub(crate) fn new(
        class: &Arc<Class>,
        numbers: &Arc<Numbers>,
        minor: u32,
        name: NodeName,
        ownership: Ownership,
        attributes: Option<A>,
        announced: bool,
    ) -> Result<Self> {
        let node = KBox::new(
            NodeDevice {
                device: Opaque::zeroed(),
                path: name.path,
                ownership,
                attributes,
                _class: class.clone(),
                _numbers: numbers.clone(),
            },
            GFP_KERNEL,
        )?;
        let with_attributes = node.attributes.is_some();
        let node = KBox::into_raw(node);
        // SAFETY: The pointer is valid.
        let device = unsafe { (*node).device.get() };
        // SAFETY: The device is zeroed memory in a place of its own. From here on it counts its
        // references, and the last one calls `release`, which takes the box back.
        unsafe {
            bindings::device_initialize(device);
            (*device).class = &CLASS.0;
            (*device).type_ = if with_attributes {
                Types::<A>::BUFFER
            } else {
                Types::<A>::PLAIN
            };
            (*device).devt = numbers.first() + minor;
            (*device).kobj.set_uevent_suppress(u32::from(!announced));
        }
        // SAFETY: The device is initialized; name and format are C strings.
        let added = to_result(unsafe {
            bindings::dev_set_name(device, c"%s".as_char_ptr(), name.sysfs.as_char_ptr())
        })
        // SAFETY: The device is ready to be added.
        .and_then(|()| to_result(unsafe { bindings::device_add(device) }));
        if let Err(error) = added {
            // SAFETY: The reference from `device_initialize` is ours.
            unsafe { bindings::put_device(device) };
            return Err(error);
        }
        // INVARIANT: It was just added.
        Ok(Self {
            device: NonNull::new(device).ok_or(EINVAL)?,
            _attributes: core::marker::PhantomData,
        })
    }
}

impl<A: Attributes> Drop for Node<A> {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants; this takes the node away, then drops our reference.
        unsafe { bindings::device_unregister(self.device.as_ptr()) };
    }
}

/// Tables for the kernel. They are constants: never written to, and without a fixed address.
struct Types<A>(core::marker::PhantomData<A>);

impl<A: Attributes> Types<A> {
    const PLAIN: &'static bindings::device_type = &Self::device_type(core::ptr::null_mut());
    const BUFFER: &'static bindings::device_type =
        &Self::device_type(Self::GROUPS.as_ptr().cast_mut());

    const GROUPS: &'static [*const bindings::attribute_group; 2] =
        &[Self::GROUP, core::ptr::null()];
    const GROUP: &'static bindings::attribute_group = &{
        let mut group: bindings::attribute_group = pin_init::zeroed();
        group.__bindgen_anon_2.attrs = Self::LIST.as_ptr().cast_mut();
        group
    };
    const LIST: &'static [*mut bindings::attribute; 7] = &[
        Self::pointer(Self::SIZE),
        Self::pointer(Self::KIND),
        Self::pointer(Self::CACHE),
        Self::pointer(Self::MAPPINGS),
        Self::pointer(Self::DMA_ADDRESS),
        Self::pointer(Self::FOR_DEVICE),
        core::ptr::null_mut(),
    ];

    const SIZE: &'static bindings::device_attribute = &Self::attribute(Attribute::Size);
    const KIND: &'static bindings::device_attribute = &Self::attribute(Attribute::Kind);
    const CACHE: &'static bindings::device_attribute = &Self::attribute(Attribute::Cache);
    const MAPPINGS: &'static bindings::device_attribute = &Self::attribute(Attribute::Mappings);
    const DMA_ADDRESS: &'static bindings::device_attribute =
        &Self::attribute(Attribute::DmaAddress);
    const FOR_DEVICE: &'static bindings::device_attribute = &Self::attribute(Attribute::Device);

    const fn pointer(attribute: &'static bindings::device_attribute) -> *mut bindings::attribute {
        (&raw const attribute.attr).cast_mut()
    }

    const fn device_type(groups: *mut *const bindings::attribute_group) -> bindings::device_type {
        bindings::device_type {
            groups,
            devnode: Some(Self::devnode),
            release: Some(Self::release),
            ..pin_init::zeroed()
        }
    }

    const fn attribute(attribute: Attribute) -> bindings::device_attribute {
        let mut shown: bindings::device_attribute = pin_init::zeroed();
        shown.attr.name = as_char_ptr_in_const_context(attribute.name());
        shown.attr.mode = attribute.mode();
        shown.__bindgen_anon_1.show = Some(Self::show);
        shown
    }

    /// # Safety
    ///
    /// The device lies in a `NodeDevice<A>` that is alive.
    unsafe fn node<'a>(device: *const bindings::device) -> &'a NodeDevice<A> {
        // SAFETY: `device` is the first field of the `repr(C)` struct.
        unsafe { &*device.cast::<NodeDevice<A>>() }
    }

    /// # Safety
    ///
    /// `device` lies in a `NodeDevice<A>`; the other pointers are null or places to write to.
    unsafe extern "C" fn devnode(
        device: *const bindings::device,
        mode: *mut bindings::umode_t,
        uid: *mut bindings::kuid_t,
        gid: *mut bindings::kgid_t,
    ) -> *mut c_char {
        // SAFETY: Called for a device of this type.
        let node = unsafe { Self::node(device) };
        // sysfs asks for the path alone, devtmpfs for all of it.
        if !mode.is_null() {
            // With the file type: devtmpfs turns a mode of 0 into 0600 (`devtmpfs_create_node`
            // of `drivers/base/devtmpfs.c`).
            let typed = node.ownership.mode | bindings::S_IFCHR as bindings::umode_t;
            // SAFETY: devtmpfs passes a place for the mode.
            unsafe { *mode = typed };
        }
        if !uid.is_null() && !gid.is_null() {
            // SAFETY: devtmpfs passes places for both.
            unsafe { mapbuf_set_owner(node.ownership.uid, node.ownership.gid, uid, gid) };
        }
        // SAFETY: The path is a C string; the caller frees the copy.
        unsafe { bindings::kstrdup(node.path.as_char_ptr(), bindings::GFP_KERNEL) }
    }

    /// # Safety
    ///
    /// `device` lies in a `NodeDevice<A>` from [`Node::new`], and its last reference is gone.
    unsafe extern "C" fn release(device: *mut bindings::device) {
        // SAFETY: The last reference is gone; the device lies at the start of a box from `Node::new`.
        drop(unsafe { KBox::from_raw(device.cast::<NodeDevice<A>>()) });
    }

    /// # Safety
    ///
    /// sysfs shows an attribute of a device in a `NodeDevice<A>` into a page-sized buffer.
    unsafe extern "C" fn show(
        device: *mut bindings::device,
        attribute: *mut bindings::device_attribute,
        to: *mut c_char,
    ) -> isize {
        // SAFETY: sysfs shows an attribute of a node, which it keeps alive meanwhile; its name is static.
        let (node, name) = unsafe {
            let name = CStr::from_char_ptr((*attribute).attr.name);
            (Self::node(device), name)
        };
        let shown = Attribute::ALL
            .into_iter()
            .find(|attribute| attribute.name() == name);
        let text = match (&node.attributes, shown) {
            (Some(attributes), Some(attribute)) => attributes.show(attribute),
            _ => Err(ENODEV),
        };
        match text {
            // SAFETY: `to` is sysfs's buffer; the format takes one C string.
            Ok(text) => unsafe {
                bindings::sysfs_emit(to, c"%s\n".as_char_ptr(), text.as_char_ptr()) as isize
            },
            Err(error) => error.to_errno() as isize,
        }
    }
}
