// SPDX-License-Identifier: GPL-2.0

//! Declarations of what `helpers.c` defines. Everything here is called from this folder only.

use kernel::{
    bindings::{
        cdev,
        cred,
        delayed_work,
        device,
        dma_buf,
        dma_data_direction,
        file,
        folio,
        gfp_t,
        inode,
        iosys_map,
        iov_iter,
        kgid_t,
        kuid_t,
        list_head,
        page,
        pci_dev,
        scatterlist,
        sg_table,
        vm_area_struct,
        vm_flags_t,
        work_func_t, //
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
    pub(super) fn mapbuf_available_bytes() -> u64;
    pub(super) fn mapbuf_page_to_pfn(page: *const page) -> c_ulong;
    pub(super) fn mapbuf_pfn_to_page(pfn: c_ulong) -> *mut page;
    pub(super) fn mapbuf_page_at(page: *mut page, index: c_ulong) -> *mut page;
    pub(super) fn mapbuf_page_address(page: *const page) -> *mut c_void;
    pub(super) fn mapbuf_get_page(page: *mut page);
    pub(super) fn mapbuf_put_page(page: *mut page);
    pub(super) fn mapbuf_page_folio(page: *mut page) -> *mut folio;
    pub(super) fn mapbuf_begins_folio(page: *mut page, count: c_ulong) -> bool;
    pub(super) fn mapbuf_set_folio_index(page: *mut page, index: c_ulong);
    pub(super) fn mapbuf_alloc_pages_node(nid: c_int, gfp: gfp_t, order: c_uint) -> *mut page;
    pub(super) fn mapbuf_alloc_contig(count: c_ulong, gfp: gfp_t, nid: c_int) -> *mut page;
    pub(super) fn mapbuf_max_folio_order() -> c_uint;
    pub(super) fn mapbuf_alloc_contig_folio(order: c_uint, gfp: gfp_t, nid: c_int) -> *mut page;
    pub(super) fn mapbuf_init_list(list: *mut list_head);
    pub(super) fn mapbuf_park(list: *mut list_head, page: *mut page) -> c_ulong;
    pub(super) fn mapbuf_sweep_parked(list: *mut list_head) -> c_ulong;
    pub(super) fn mapbuf_drop_parked(list: *mut list_head);
    pub(super) fn mapbuf_init_delayed_work(work: *mut delayed_work, run: work_func_t);
    pub(super) fn mapbuf_node_has_memory(nid: c_int) -> bool;
    pub(super) fn mapbuf_pmd_order() -> c_uint;
    pub(super) fn mapbuf_vmap(pages: *mut *mut page, count: c_uint, cache: u32) -> *mut c_void;
    pub(super) fn mapbuf_vunmap(area: *const c_void);
    pub(super) fn mapbuf_virt_to_pfn(address: *const c_void) -> c_ulong;

    pub(super) fn mapbuf_set_cache(pages: *mut *mut page, count: c_int, cache: u32) -> c_int;

    pub(super) fn mapbuf_cma_exists() -> bool;
    pub(super) fn mapbuf_cma_alloc(count: c_ulong, align: c_uint) -> *mut page;
    pub(super) fn mapbuf_cma_release(pages: *mut page, count: c_ulong);

    pub(super) fn mapbuf_name_dmabuf(buffer: *mut dma_buf, name: *const c_char);
    pub(super) fn mapbuf_max_segment(dev: *mut device) -> c_uint;
    pub(super) fn mapbuf_sg_set(
        entry: *mut scatterlist,
        pfn: c_ulong,
        size: c_uint,
    ) -> *mut scatterlist;
    pub(super) fn mapbuf_sync_table(
        dev: *mut device,
        table: *mut sg_table,
        direction: dma_data_direction,
        for_cpu: bool,
    );
    pub(super) fn mapbuf_iosys_set(map: *mut iosys_map, address: *mut c_void);

    pub(super) fn mapbuf_range_is_ram(start: u64, size: u64) -> bool;
    #[cfg(CONFIG_KUNIT)]
    pub(super) fn mapbuf_is_cached(view: *const c_void) -> bool;
    pub(super) fn mapbuf_map_view(start: u64, size: u64, cache: u32) -> *mut c_void;
    pub(super) fn mapbuf_unmap_view(view: *mut c_void, cache: u32);
    pub(super) fn mapbuf_read_word(address: *const c_void, width: u32) -> u64;
    pub(super) fn mapbuf_write_word(address: *mut c_void, word: u64, width: u32);
    pub(super) fn mapbuf_flush(address: *mut c_void, size: c_ulong);

    pub(super) fn mapbuf_remap_vmalloc_range(
        vma: *mut vm_area_struct,
        address: *mut c_void,
        page: c_ulong,
    ) -> c_int;
    pub(super) fn mapbuf_io_remap_pfn_range(
        vma: *mut vm_area_struct,
        address: c_ulong,
        pfn: c_ulong,
        size: c_ulong,
    ) -> c_int;
    pub(super) fn mapbuf_vma_flags(vma: *mut vm_area_struct, set: vm_flags_t, clear: vm_flags_t);
    pub(super) fn mapbuf_is_encrypted(view: *const c_void) -> bool;
    pub(super) fn mapbuf_vma_protection(vma: *mut vm_area_struct, cache: u32, view: *const c_void);
    pub(super) fn mapbuf_count_mappings(file: *mut file) -> c_uint;

    pub(super) fn mapbuf_inode_device(inode: *const inode) -> *mut cdev;
    pub(super) fn mapbuf_iter_address(iter: *const iov_iter) -> c_ulong;
    pub(super) fn mapbuf_memcpy(to: *mut c_void, from: *const c_void, size: c_ulong);

    pub(super) fn mapbuf_cond_resched();
    pub(super) fn mapbuf_fatal_signal_pending() -> bool;
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

    pub(super) fn mapbuf_pci_set_data(dev: *mut pci_dev, data: *mut c_void);
    pub(super) fn mapbuf_pci_data(dev: *mut pci_dev) -> *mut c_void;
    pub(super) fn mapbuf_pci_name(dev: *const pci_dev) -> *const c_char;
    pub(super) fn mapbuf_pci_address(dev: *mut pci_dev) -> u32;
    pub(super) fn mapbuf_pci_node(dev: *mut pci_dev) -> c_int;
    pub(super) fn mapbuf_device_coherent(dev: *mut device) -> bool;
    pub(super) fn mapbuf_dma_bits(dev: *mut device) -> u32;
    pub(super) fn mapbuf_pci_iommu(dev: *mut pci_dev, number: *mut u32) -> u32;
    pub(super) fn mapbuf_pci_stranger(dev: *mut pci_dev, address: *mut u32) -> bool;
    pub(super) fn mapbuf_pci_vectors(dev: *mut pci_dev, kind: u32) -> u32;
    pub(super) fn mapbuf_pci_bar(dev: *mut pci_dev, index: c_uint, flags: *mut u32) -> u64;

    pub(super) fn mapbuf_payers(cred: *const cred, uids: *mut u32, most: u32) -> u32;
    pub(super) fn mapbuf_node_allowed(nid: c_int) -> bool;
    pub(super) fn mapbuf_frame_allowed(pfn: c_ulong) -> bool;
}
