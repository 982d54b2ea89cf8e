// SPDX-License-Identifier: GPL-2.0

//! Declarations of what `helpers.c` defines. Everything here is called from this folder only. What any driver could use
//! is declared in `kmap/helpers.rs`.

use kernel::{
    bindings::{
        cdev,
        cred,
        device,
        dma_buf,
        dma_buf_attachment,
        file,
        inode,
        kgid_t,
        kuid_t,
        of_device_id,
        pci_dev,
        scatterlist,
        sg_table, //
    },
    ffi::{
        c_char,
        c_int,
        c_uint,
        c_ulong,
        c_void, //
    },
};

#[expect(
    improper_ctypes,
    reason = "the bindings' structs hold empty ones; only pointers to them cross here"
)]
extern "C" {
    pub(super) fn mapbuf_param_max_bytes() -> u64;
    pub(super) fn mapbuf_param_max_bytes_per_user() -> u64;
    pub(super) fn mapbuf_param_max_buffers() -> u32;
    pub(super) fn mapbuf_param_max_names() -> u32;
    pub(super) fn mapbuf_param_expose_dma() -> bool;
    pub(super) fn mapbuf_param_regions() -> *const c_char;

    pub(super) fn mapbuf_ram_bytes() -> u64;

    pub(super) fn mapbuf_name_dmabuf(buffer: *mut dma_buf, name: *const c_char);
    pub(super) fn mapbuf_sg_set(
        entry: *mut scatterlist,
        pfn: c_ulong,
        size: c_uint,
    ) -> *mut scatterlist;
    pub(super) fn mapbuf_have_pages(first: c_ulong, count: c_ulong) -> bool;
    pub(super) fn mapbuf_invalidate(buffer: *mut dma_buf);

    pub(super) fn mapbuf_count_mappings(file: *mut file) -> c_uint;

    pub(super) fn mapbuf_inode_device(inode: *const inode) -> *mut cdev;

    pub(super) fn mapbuf_current_start() -> u64;
    pub(super) fn mapbuf_current_number() -> u32;
    pub(super) fn mapbuf_cgroup_room(limit: *mut u64) -> u64;
    pub(super) fn mapbuf_current_uid() -> u32;
    pub(super) fn mapbuf_current_gid() -> u32;
    pub(super) fn mapbuf_uid_from_caller(uid: u32) -> u32;
    pub(super) fn mapbuf_gid_from_caller(gid: u32) -> u32;
    pub(super) fn mapbuf_in_group(gid: u32) -> bool;
    pub(super) fn mapbuf_may_see(capability: c_int) -> bool;
    pub(super) fn mapbuf_set_owner(uid: u32, gid: u32, kuid: *mut kuid_t, kgid: *mut kgid_t);

    pub(super) fn mapbuf_device_set_data(dev: *mut device, data: *mut c_void);
    pub(super) fn mapbuf_device_data(dev: *mut device) -> *mut c_void;
    pub(super) fn mapbuf_device_name(dev: *const device) -> *const c_char;
    pub(super) fn mapbuf_device_node(dev: *mut device) -> c_int;
    pub(super) fn mapbuf_device_coherent(dev: *mut device) -> bool;
    pub(super) fn mapbuf_dma_bits(dev: *mut device) -> u32;
    pub(super) fn mapbuf_device_iommu(dev: *mut device, number: *mut u32) -> u32;
    pub(super) fn mapbuf_pci_address(dev: *mut pci_dev) -> u32;
    pub(super) fn mapbuf_device_stranger(dev: *mut device, address: *mut u32) -> bool;

    pub(super) fn mapbuf_platform_compatible() -> *const of_device_id;
    pub(super) fn mapbuf_platform_take_memory(dev: *mut device) -> c_int;
    pub(super) fn mapbuf_platform_give_memory_back(dev: *mut device);

    pub(super) fn mapbuf_pci_vectors(dev: *mut pci_dev, kind: u32) -> u32;
    pub(super) fn mapbuf_pci_bar(dev: *mut pci_dev, index: c_uint, flags: *mut u32) -> u64;

    pub(super) fn mapbuf_reach(dev: *mut device) -> u64;
    pub(super) fn mapbuf_map_table(dev: *mut device, table: *mut sg_table, direction: u32)
        -> c_int;
    pub(super) fn mapbuf_forget(dev: *mut device);
    pub(super) fn mapbuf_unmap_table(dev: *mut device, table: *mut sg_table, direction: u32);
    pub(super) fn mapbuf_sg_mapped(
        entry: *mut scatterlist,
        address: *mut u64,
        length: *mut u64,
    ) -> *mut scatterlist;
    pub(super) fn mapbuf_reaches_all(dev: *mut device) -> bool;
    pub(super) fn mapbuf_import_map(
        attachment: *mut dma_buf_attachment,
        direction: u32,
    ) -> *mut sg_table;
    pub(super) fn mapbuf_import_unmap(
        attachment: *mut dma_buf_attachment,
        table: *mut sg_table,
        direction: u32,
    );
    pub(super) fn mapbuf_cpu_access(buffer: *mut dma_buf, direction: u32, begin: bool) -> c_int;
    pub(super) fn mapbuf_needs_sync(dev: *mut device, address: u64) -> bool;
    pub(super) fn mapbuf_sync_range(
        dev: *mut device,
        address: u64,
        size: usize,
        direction: u32,
        for_cpu: bool,
    );

    pub(super) fn mapbuf_param_dma_heaps() -> bool;
    pub(super) fn mapbuf_add_heap(
        name: *const c_char,
        allocate: unsafe extern "C" fn(*mut c_void, c_ulong, u32) -> *mut dma_buf,
        serves: *mut c_void,
    ) -> c_int;
    pub(super) fn mapbuf_current_cred() -> *const cred;
    pub(super) fn mapbuf_payers(cred: *const cred, uids: *mut u32, most: u32) -> u32;
}
