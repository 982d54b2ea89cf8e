// SPDX-License-Identifier: GPL-2.0

//! Declarations of what `helpers.c` defines.

use kernel::{
    bindings::{
        delayed_work,
        device,
        dma_addr_t,
        dma_data_direction,
        file,
        folio,
        gfp_t,
        iosys_map,
        iov_iter,
        page,
        path,
        pci_dev,
        sg_table,
        vm_area_desc,
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
    pub(crate) fn kmap_helper_file_path(file: *const file) -> *const path;
    pub(crate) fn kmap_helper_available_bytes() -> u64;
    pub(crate) fn kmap_helper_page_to_pfn(page: *const page) -> c_ulong;
    pub(crate) fn kmap_helper_pfn_to_page(pfn: c_ulong) -> *mut page;
    pub(crate) fn kmap_helper_page_at(page: *mut page, index: c_ulong) -> *mut page;
    pub(crate) fn kmap_helper_page_address(page: *const page) -> *mut c_void;
    pub(crate) fn kmap_helper_get_page(page: *mut page);
    pub(crate) fn kmap_helper_put_page(page: *mut page);
    pub(crate) fn kmap_helper_page_folio(page: *mut page) -> *mut folio;
    pub(crate) fn kmap_helper_begins_folio(page: *mut page, count: c_ulong) -> bool;
    pub(crate) fn kmap_helper_set_folio_index(page: *mut page, index: c_ulong);
    pub(crate) fn kmap_helper_alloc_pages_node(nid: c_int, gfp: gfp_t, order: c_uint) -> *mut page;
    pub(crate) fn kmap_helper_alloc_contig(count: c_ulong, gfp: gfp_t, nid: c_int) -> *mut page;
    pub(crate) fn kmap_helper_max_folio_order() -> c_uint;
    pub(crate) fn kmap_helper_takes_folios(order: c_uint) -> bool;
    pub(crate) fn kmap_helper_take_folio(page: *mut page, order: c_uint, gfp: gfp_t) -> bool;
    pub(crate) fn kmap_helper_take_pages(page: *mut page, count: c_ulong, gfp: gfp_t) -> bool;
    pub(crate) fn kmap_helper_contig_node(nid: c_int) -> c_int;
    pub(crate) fn kmap_helper_zone_of(gfp: gfp_t) -> c_int;
    pub(crate) fn kmap_helper_free_place(
        nid: c_int,
        zone: c_uint,
        from: c_ulong,
        count: c_ulong,
        order: c_uint,
    ) -> *mut page;
    pub(crate) fn kmap_helper_alloc_contig_folio(
        order: c_uint,
        gfp: gfp_t,
        nid: c_int,
    ) -> *mut page;
    pub(crate) fn kmap_helper_park(first: *mut *mut folio, page: *mut page) -> c_ulong;
    pub(crate) fn kmap_helper_sweep_parked(first: *mut *mut folio) -> c_ulong;
    pub(crate) fn kmap_helper_drop_parked(first: *mut folio);
    pub(crate) fn kmap_helper_init_delayed_work(work: *mut delayed_work, run: work_func_t);
    pub(crate) fn kmap_helper_node_has_memory(nid: c_int) -> bool;
    pub(crate) fn kmap_helper_pmd_order() -> c_uint;
    pub(crate) fn kmap_helper_vmap(pages: *mut *mut page, count: c_uint, cache: u32)
        -> *mut c_void;
    pub(crate) fn kmap_helper_vunmap(area: *const c_void);
    pub(crate) fn kmap_helper_virt_to_pfn(address: *const c_void) -> c_ulong;
    pub(crate) fn kmap_helper_set_cache(pages: *mut *mut page, count: c_int, cache: u32) -> c_int;
    pub(crate) fn kmap_helper_cma_exists() -> bool;
    pub(crate) fn kmap_helper_cma_alloc(count: c_ulong, align: c_uint) -> *mut page;
    pub(crate) fn kmap_helper_cma_release(pages: *mut page, count: c_ulong);
    pub(crate) fn kmap_helper_range_is_ram(start: u64, size: u64) -> bool;
    #[cfg(CONFIG_KUNIT)]
    pub(crate) fn kmap_helper_is_cached(view: *const c_void) -> bool;
    pub(crate) fn kmap_helper_map_view(start: u64, size: u64, cache: u32) -> *mut c_void;
    pub(crate) fn kmap_helper_unmap_view(view: *mut c_void, cache: u32);
    pub(crate) fn kmap_helper_read_word(address: *const c_void, width: u32) -> u64;
    pub(crate) fn kmap_helper_write_word(address: *mut c_void, word: u64, width: u32);
    pub(crate) fn kmap_helper_flush(address: *mut c_void, size: c_ulong);
    pub(crate) fn kmap_helper_remap_vmalloc_range(
        vma: *mut vm_area_struct,
        address: *mut c_void,
        page: c_ulong,
    ) -> c_int;
    pub(crate) fn kmap_helper_io_remap_pfn_range(
        vma: *mut vm_area_struct,
        address: c_ulong,
        pfn: c_ulong,
        size: c_ulong,
    ) -> c_int;
    pub(crate) fn kmap_helper_vma_flags(
        vma: *mut vm_area_struct,
        set: vm_flags_t,
        clear: vm_flags_t,
    );
    pub(crate) fn kmap_helper_is_encrypted(view: *const c_void) -> bool;
    pub(crate) fn kmap_helper_vma_protection(
        vma: *mut vm_area_struct,
        cache: u32,
        view: *const c_void,
    );
    pub(crate) fn kmap_helper_desc_protection(
        desc: *mut vm_area_desc,
        cache: u32,
        view: *const c_void,
    );
    pub(crate) fn kmap_helper_desc_flags(desc: *const vm_area_desc) -> vm_flags_t;
    pub(crate) fn kmap_helper_desc_change_flags(
        desc: *mut vm_area_desc,
        set: vm_flags_t,
        clear: vm_flags_t,
    );
    pub(crate) fn kmap_helper_desc_remap(desc: *mut vm_area_desc, pfn: c_ulong);
    pub(crate) fn kmap_helper_desc_map_pages(desc: *mut vm_area_desc, pages: *mut *mut page);
    pub(crate) fn kmap_helper_pci_name(pci: *const pci_dev) -> *const c_char;
    pub(crate) fn kmap_helper_pci_data(pci: *mut pci_dev) -> *mut c_void;
    pub(crate) fn kmap_helper_pci_set_data(pci: *mut pci_dev, data: *mut c_void);
    pub(crate) fn kmap_helper_pci_memory(pci: *mut pci_dev, bar: c_uint, start: *mut u64) -> u64;
    pub(crate) fn kmap_helper_iter_address(iter: *const iov_iter) -> c_ulong;
    pub(crate) fn kmap_helper_memcpy(to: *mut c_void, from: *const c_void, size: c_ulong);
    pub(crate) fn kmap_helper_cond_resched();
    pub(crate) fn kmap_helper_fatal_signal_pending() -> bool;
    pub(crate) fn kmap_helper_node_allowed(nid: c_int) -> bool;
    pub(crate) fn kmap_helper_frame_allowed(pfn: c_ulong) -> bool;
    pub(crate) fn kmap_helper_last_ram() -> u64;
    pub(crate) fn kmap_helper_has_pool(device: *mut device) -> bool;
    pub(crate) fn kmap_helper_free_coherent(
        dev: *mut device,
        size: usize,
        address: *mut c_void,
        dma: dma_addr_t,
    );
    pub(crate) fn kmap_helper_max_segment(dev: *mut device) -> c_uint;
    pub(crate) fn kmap_helper_sync_table(
        dev: *mut device,
        table: *mut sg_table,
        direction: dma_data_direction,
        for_cpu: bool,
    );
    pub(crate) fn kmap_helper_iosys_set(map: *mut iosys_map, address: *mut c_void);
}
