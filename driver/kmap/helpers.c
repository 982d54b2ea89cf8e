// SPDX-License-Identifier: GPL-2.0
/*
 * What Rust cannot call: macros, inline functions, and functions whose headers the kernel's Rust bindings
 * do not include. Each function does one thing; the rules are in Rust.
 */

#include <linux/cma.h>
#include <linux/cpuset.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/ioport.h>
#include <linux/iosys-map.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#ifdef CONFIG_X86
#include <asm/cacheflush.h>
#include <asm/coco.h>
#include <asm/set_memory.h>
#endif

/* Their only callers are the declarations in helpers.rs. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

/* Files. */

const struct path *kmap_helper_file_path(const struct file *file)
{
	return &file->f_path;
}

/* Pages and folios. */

/* How much can be allocated without swapping, by the kernel's own estimate. */
u64 kmap_helper_available_bytes(void)
{
	return (u64)max(si_mem_available(), 0L) << PAGE_SHIFT;
}

unsigned long kmap_helper_page_to_pfn(const struct page *page)
{
	return page_to_pfn(page);
}

struct page *kmap_helper_pfn_to_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}

struct page *kmap_helper_page_at(struct page *page, unsigned long index)
{
	return pfn_to_page(page_to_pfn(page) + index);
}

void *kmap_helper_page_address(const struct page *page)
{
	return page_address(page);
}

void kmap_helper_get_page(struct page *page)
{
	get_page(page);
}

void kmap_helper_put_page(struct page *page)
{
	put_page(page);
}

struct folio *kmap_helper_page_folio(struct page *page)
{
	return page_folio(page);
}

bool kmap_helper_begins_folio(struct page *page, unsigned long count)
{
	return PageHead(page) && folio_nr_pages(page_folio(page)) == count;
}

void kmap_helper_set_folio_index(struct page *page, pgoff_t index)
{
	page_folio(page)->index = index;
}

struct page *kmap_helper_alloc_pages_node(int nid, gfp_t gfp, unsigned int order)
{
	/* Without a node, by the caller's memory policy, which alloc_pages_node() would ignore. */
	if (nid == NUMA_NO_NODE)
		return alloc_pages(gfp, order);
	return alloc_pages_node(nid, gfp, order);
}

/*
 * The nodes from which the caller may take memory: those of its cpuset, limited by a memory policy that binds.
 * read_mems_allowed_begin() is not used: modules do not see its static key.
 */
static void kmap_helper_allowed_nodes(nodemask_t *nodes)
{
#ifdef CONFIG_CPUSETS
	unsigned int sequence;

	do {
		sequence = read_seqcount_begin(&current->mems_allowed_seq);
		*nodes = current->mems_allowed;
	} while (read_seqcount_retry(&current->mems_allowed_seq, sequence));
#else
	*nodes = node_states[N_MEMORY];
#endif
#ifdef CONFIG_NUMA
	/* Only the task itself changes which policy it has. */
	if (current->mempolicy && current->mempolicy->mode == MPOL_BIND &&
	    nodes_intersects(*nodes, current->mempolicy->nodes))
		nodes_and(*nodes, *nodes, current->mempolicy->nodes);
#endif
}

/* By the cpuset alone: a policy does not matter when a node is named. */
bool kmap_helper_node_allowed(int nid)
{
	return nid >= 0 && nid < MAX_NUMNODES && node_isset(nid, cpuset_current_mems_allowed);
}

/* A frame without a page, like those of a device's own memory, is on no node that a cpuset could name. */
bool kmap_helper_frame_allowed(unsigned long pfn)
{
	return !pfn_valid(pfn) || kmap_helper_node_allowed(page_to_nid(pfn_to_page(pfn)));
}

/* alloc_contig_pages() does not take NUMA_NO_NODE: it uses the node's zone list unchecked. */
struct page *kmap_helper_alloc_contig(unsigned long count, gfp_t gfp, int nid)
{
	nodemask_t nodes;

	/* It ignores cpusets (alloc_contig_frozen_pages_noprof() of mm/page_alloc.c). */
	kmap_helper_allowed_nodes(&nodes);
	return alloc_contig_pages(count, gfp, nid == NUMA_NO_NODE ? numa_mem_id() : nid, &nodes);
}

/* alloc_contig_frozen_range() warns about a larger folio. */
unsigned int kmap_helper_max_folio_order(void)
{
	return MAX_FOLIO_ORDER;
}

/* The same as one folio of any size up to that, as hugetlb gets its gigantic folios. It comes without a reference. */
struct page *kmap_helper_alloc_contig_folio(unsigned int order, gfp_t gfp, int nid)
{
	struct page *page;
	nodemask_t nodes;

	kmap_helper_allowed_nodes(&nodes);
	if (nid == NUMA_NO_NODE)
		nid = numa_mem_id();
	page = alloc_contig_frozen_pages(1UL << order, gfp | __GFP_COMP, nid, &nodes);
	if (page)
		init_page_count(page);
	return page;
}

/*
 * Whether a folio of this order can be taken from its place: alloc_contig_frozen_range() warns where a free block of the
 * page allocator's lies across its edge, which that of a pageblock never is.
 */
bool kmap_helper_takes_folios(unsigned int order)
{
	return order && order >= pageblock_order && order <= MAX_FOLIO_ORDER;
}

/* Takes a folio from its place, whose pages are free or can be moved away. */
bool kmap_helper_take_folio(struct page *page, unsigned int order, gfp_t gfp)
{
	unsigned long start = page_to_pfn(page);

	if (alloc_contig_frozen_range(start, start + (1UL << order), ACR_FLAGS_NONE, gfp | __GFP_COMP))
		return false;
	/* It comes without a reference. */
	init_page_count(page);
	return true;
}

/* The same for single pages. */
bool kmap_helper_take_pages(struct page *page, unsigned long count, gfp_t gfp)
{
	unsigned long start = page_to_pfn(page);

	return !alloc_contig_range(start, start + count, ACR_FLAGS_NONE, gfp);
}

/* The node to look for contiguous memory on, or -1 where the caller may not have any of it. */
int kmap_helper_contig_node(int nid)
{
	nodemask_t nodes;

	kmap_helper_allowed_nodes(&nodes);
	if (nid == NUMA_NO_NODE)
		nid = numa_mem_id();
	return node_isset(nid, nodes) ? nid : -1;
}

/* The highest zone from which an allocation may be. */
int kmap_helper_zone_of(gfp_t gfp)
{
	return gfp_zone(gfp);
}

/*
 * The first page of a place in a zone, from a frame on, where free blocks of at least this order seem to lie one behind the
 * other, for so many pages. No lock is held: what is read may be wrong, and others may take the blocks.
 */
struct page *kmap_helper_free_place(int nid, unsigned int zone_number, unsigned long from,
				    unsigned long count, unsigned int order)
{
	struct zone *zone = &NODE_DATA(nid)->node_zones[zone_number];
	unsigned long step, found = 0;
	unsigned long pfn = ALIGN(max(from, zone->zone_start_pfn), 1UL << order);
	unsigned long end = zone_end_pfn(zone);

	for (; pfn < end; pfn += step) {
		struct page *page = pfn_to_online_page(pfn);
		unsigned long free;

		step = 1UL << order;
		if (page && page_zone(page) == zone && PageBuddy(page)) {
			free = READ_ONCE(page_private(page));
			if (free >= order && free <= MAX_PAGE_ORDER) {
				step = 1UL << free;
				found += step;
				if (found >= count)
					return pfn_to_page(pfn + step - found);
				continue;
			}
		}
		found = 0;
		cond_resched();
	}
	return NULL;
}

/*
 * Folios of freed buffers to which somebody else still refers, linked by folio->lru.next, which is NULL in the last. The owner
 * may use that while the folios are on no LRU list and not in the page cache. A folio with no reference but ours gets no
 * other: nothing leads to it.
 */

static struct folio *kmap_next_parked(struct folio *folio)
{
	return (struct folio *)folio->lru.next;
}

/* Frees a folio or keeps it. Returns how many pages are kept. */
unsigned long kmap_helper_park(struct folio **first, struct page *page)
{
	struct folio *folio = page_folio(page);

	if (folio_ref_count(folio) == 1) {
		folio_put(folio);
		return 0;
	}
	folio->lru.next = (struct list_head *)*first;
	*first = folio;
	return folio_nr_pages(folio);
}

/* Returns how many pages are left. */
unsigned long kmap_helper_sweep_parked(struct folio **first)
{
	struct folio *folio, *next;
	unsigned long left = 0;

	folio = *first;
	*first = NULL;
	for (; folio; folio = next) {
		next = kmap_next_parked(folio);
		left += kmap_helper_park(first, &folio->page);
		cond_resched();
	}
	return left;
}

void kmap_helper_drop_parked(struct folio *folio)
{
	struct folio *next;

	for (; folio; folio = next) {
		next = kmap_next_parked(folio);
		folio_put(folio);
		cond_resched();
	}
}

void kmap_helper_init_delayed_work(struct delayed_work *work, work_func_t run)
{
	INIT_DELAYED_WORK(work, run);
}

bool kmap_helper_node_has_memory(int nid)
{
	return nid >= 0 && nid < MAX_NUMNODES && node_state(nid, N_MEMORY);
}

unsigned int kmap_helper_pmd_order(void)
{
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	return HPAGE_PMD_ORDER;
#else
	return 0;
#endif
}

void *kmap_helper_vmap(struct page **pages, unsigned int count, u32 cache)
{
	pgprot_t prot = PAGE_KERNEL;

	if (cache == 1)
		prot = pgprot_writecombine(prot);
	else if (cache == 2)
		prot = pgprot_noncached(prot);
	return vmap(pages, count, VM_MAP | VM_USERMAP, prot);
}

void kmap_helper_vunmap(const void *area)
{
	vunmap(area);
}

unsigned long kmap_helper_virt_to_pfn(const void *address)
{
	if (is_vmalloc_addr(address))
		return vmalloc_to_pfn(address);
	return PHYS_PFN(virt_to_phys((void *)address));
}

/*
 * Cache modes of the kernel's own view, numbered as enum Cache. They must be the same as those of the
 * user's views: two views of one page with different modes are undefined on x86.
 */
int kmap_helper_set_cache(struct page **pages, int count, u32 cache)
{
#ifdef CONFIG_X86
	switch (cache) {
	case 0:
		return set_pages_array_wb(pages, count);
	case 1:
		return set_pages_array_wc(pages, count);
	case 2:
		return set_pages_array_uc(pages, count);
	}
	return -EINVAL;
#else
	return -EOPNOTSUPP;
#endif
}

/* CMA: linux/cma.h is not among the bindings. */

bool kmap_helper_cma_exists(void)
{
	return dev_get_cma_area(NULL);
}

struct page *kmap_helper_cma_alloc(unsigned long count, unsigned int align)
{
	struct cma *area = dev_get_cma_area(NULL);
	struct page *pages = area ? cma_alloc(area, count, align, true) : NULL;

	/* The area has a fixed place, which may lie outside the caller's cpuset. */
	if (pages && !kmap_helper_node_allowed(page_to_nid(pages))) {
		cma_release(area, pages, count);
		return NULL;
	}
	return pages;
}

void kmap_helper_cma_release(struct page *pages, unsigned long count)
{
	cma_release(dev_get_cma_area(NULL), pages, count);
}

/* Physical ranges. */

bool kmap_helper_range_is_ram(u64 start, u64 size)
{
	return region_intersects(start, size, IORESOURCE_SYSTEM_RAM, IORES_DESC_NONE) !=
	       REGION_DISJOINT;
}

/*
 * Whether a view is cached: where a range register says otherwise, memremap() makes an uncached one of it,
 * without an error (is_new_memtype_allowed() of arch/x86/include/asm/pgtable.h).
 */
bool kmap_helper_is_cached(const void *view)
{
#ifdef CONFIG_X86
	unsigned int level;
	pte_t *entry = lookup_address((unsigned long)view, &level);

	return entry && !(pte_flags(*entry) & (_PAGE_PWT | _PAGE_PCD));
#else
	return true;
#endif
}

/* The kernel's view of a range, by cache mode (as enum Cache): memory is memremapped if it is cached. */
void *kmap_helper_map_view(u64 start, u64 size, u32 cache)
{
	void *view;

	switch (cache) {
	case 0:
		view = memremap(start, size, MEMREMAP_WB);
		if (view && !kmap_helper_is_cached(view)) {
			memunmap(view);
			return NULL;
		}
		return view;
	case 1:
		return (__force void *)ioremap_wc(start, size);
	default:
		return (__force void *)ioremap(start, size);
	}
}

void kmap_helper_unmap_view(void *view, u32 cache)
{
	if (cache == 0)
		memunmap(view);
	else
		iounmap((__force void __iomem *)view);
}

/* Of memory, or of ports, by the number that pci_iomap() gave for them. Ports have no words of 64 bits. */
u64 kmap_helper_read_word(const void *address, u32 width)
{
	const void __iomem *from = (__force const void __iomem *)address;

	switch (width) {
	case 8:
		return ioread8(from);
	case 16:
		return ioread16(from);
	case 32:
		return ioread32(from);
	default:
		return readq(from);
	}
}

void kmap_helper_write_word(void *address, u64 word, u32 width)
{
	void __iomem *to = (__force void __iomem *)address;

	switch (width) {
	case 8:
		iowrite8(word, to);
		break;
	case 16:
		iowrite16(word, to);
		break;
	case 32:
		iowrite32(word, to);
		break;
	default:
		writeq(word, to);
	}
}

/* Takes a word out of the caches, so that the next read asks the memory. */
void kmap_helper_flush(void *address, unsigned long size)
{
#ifdef CONFIG_X86
	clflush_cache_range(address, size);
#endif
	mb();
}

/* PCI devices. */

const char *kmap_helper_pci_name(const struct pci_dev *pci)
{
	return pci_name(pci);
}

void *kmap_helper_pci_data(struct pci_dev *pci)
{
	return pci_get_drvdata(pci);
}

void kmap_helper_pci_set_data(struct pci_dev *pci, void *data)
{
	pci_set_drvdata(pci, data);
}

/* The bytes of the memory that a base address register leads to, and where it is; 0 where there is none. */
u64 kmap_helper_pci_memory(struct pci_dev *pci, unsigned int bar, u64 *start)
{
	if (bar > PCI_STD_RESOURCE_END || !(pci_resource_flags(pci, bar) & IORESOURCE_MEM))
		return 0;
	*start = pci_resource_start(pci, bar);
	return pci_resource_len(pci, bar);
}

/* Virtual memory areas. */

int kmap_helper_remap_vmalloc_range(struct vm_area_struct *vma, void *address, unsigned long page)
{
	return remap_vmalloc_range(vma, address, page);
}

int kmap_helper_io_remap_pfn_range(struct vm_area_struct *vma, unsigned long address, unsigned long pfn,
			      unsigned long size)
{
	return io_remap_pfn_range(vma, address, pfn, size, vma->vm_page_prot);
}

void kmap_helper_vma_flags(struct vm_area_struct *vma, vm_flags_t set, vm_flags_t clear)
{
	vm_flags_mod(vma, set, clear);
}

/* Whether the kernel has memory mapped as encrypted, in a confidential guest. Elsewhere nothing is. */
bool kmap_helper_is_encrypted(const void *view)
{
#ifdef CONFIG_X86
	unsigned int level;
	pte_t *entry = view ? lookup_address((unsigned long)view, &level) : NULL;

	return entry && pte_val(*entry) != cc_mkdec(pte_val(*entry));
#else
	return false;
#endif
}

/*
 * The one place that decides how user space sees memory: with a cache mode (as enum Cache), and encrypted if the
 * kernel's own view is. The protection that the core has set is encrypted.
 */
static pgprot_t kmap_protection(pgprot_t prot, u32 cache, const void *view)
{
	if (cache == 1)
		prot = pgprot_writecombine(prot);
	else if (cache == 2)
		prot = pgprot_noncached(prot);
	if (!kmap_helper_is_encrypted(view))
		prot = pgprot_decrypted(prot);
	return prot;
}

void kmap_helper_vma_protection(struct vm_area_struct *vma, u32 cache, const void *view)
{
	vma->vm_page_prot = kmap_protection(vma->vm_page_prot, cache, view);
}

/* Descriptions of mappings. */

void kmap_helper_desc_protection(struct vm_area_desc *desc, u32 cache, const void *view)
{
	desc->page_prot = kmap_protection(desc->page_prot, cache, view);
}

vm_flags_t kmap_helper_desc_flags(const struct vm_area_desc *desc)
{
	return vma_flags_to_legacy(desc->vma_flags);
}

void kmap_helper_desc_change_flags(struct vm_area_desc *desc, vm_flags_t set, vm_flags_t clear)
{
	vma_desc_set_flags_mask(desc, legacy_to_vma_flags(set));
	vma_desc_clear_flags_mask(desc, legacy_to_vma_flags(clear));
}

void kmap_helper_desc_remap(struct vm_area_desc *desc, unsigned long pfn)
{
	mmap_action_remap_full(desc, pfn);
}

void kmap_helper_desc_map_pages(struct vm_area_desc *desc, struct page **pages)
{
	mmap_action_map_kernel_pages_full(desc, pages);
}

/* The user address of the next byte of a request. */
unsigned long kmap_helper_iter_address(const struct iov_iter *iter)
{
	if (iter_is_ubuf(iter) || iter_is_iovec(iter))
		return (unsigned long)iter_iov_addr(iter);
	return 0;
}

void kmap_helper_memcpy(void *to, const void *from, unsigned long size)
{
	memcpy(to, from, size);
}

/* The calling thread. */

void kmap_helper_cond_resched(void)
{
	cond_resched();
}

bool kmap_helper_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

/* The last physical address of memory that the page allocator may have. */
u64 kmap_helper_last_ram(void)
{
	unsigned long end = 1;
	int nid;

	for_each_online_node(nid)
		end = max(end, node_end_pfn(nid));
	return PFN_PHYS((u64)end) - 1;
}

/*
 * Where the domain flushes lazily, the IOMMU may know an address for a while after it was unmapped: __iommu_dma_unmap() of
 * drivers/iommu/dma-iommu.c leaves that to a timer. What is given back afterwards must not be reached.
 */
static struct iommu_domain *kmap_late_domain(struct device *dev)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);

	return domain && domain->type == IOMMU_DOMAIN_DMA_FQ ? domain : NULL;
}

void kmap_helper_flush_iommu(struct device *dev)
{
	struct iommu_domain *domain = kmap_late_domain(dev);

	if (domain)
		iommu_flush_iotlb_all(domain);
}

/*
 * Whether coherent memory of the device comes from memory that is its alone: dma_alloc_attrs() of kernel/dma/mapping.c takes
 * none from elsewhere then. The kernel's own view of it is write-combined (dma_init_coherent_memory() of
 * kernel/dma/coherent.c).
 */
bool kmap_helper_has_pool(struct device *dev)
{
#ifdef CONFIG_DMA_DECLARE_COHERENT
	return dev->dma_mem;
#else
	return false;
#endif
}

/*
 * iommu_dma_free() of drivers/iommu/dma-iommu.c gives the pages back before the IOMMU has forgotten them. They are of
 * order 0, with a reference each (__iommu_dma_alloc_pages() of drivers/iommu/dma-iommu.c), so that another one keeps them
 * until then.
 */
void kmap_helper_free_coherent(struct device *dev, size_t size, void *address, dma_addr_t dma)
{
	struct page *page, *next;
	LIST_HEAD(pages);
	size_t at;

	if (kmap_late_domain(dev) && is_vmalloc_addr(address) && !kmap_helper_has_pool(dev)) {
		for (at = 0; at < size; at += PAGE_SIZE) {
			page = vmalloc_to_page(address + at);
			get_page(page);
			list_add(&page->lru, &pages);
		}
	}
	dma_free_attrs(dev, size, address, dma, 0);
	kmap_helper_flush_iommu(dev);
	list_for_each_entry_safe(page, next, &pages, lru) {
		list_del(&page->lru);
		put_page(page);
	}
}

/* dma-bufs. */

/* The longest segment that a device takes, at least a page: sg_alloc_append_table_from_pages() warns of less. */
unsigned int kmap_helper_max_segment(struct device *dev)
{
	return max_t(unsigned int, dma_get_max_seg_size(dev), PAGE_SIZE);
}

void kmap_helper_sync_table(struct device *dev, struct sg_table *table, enum dma_data_direction direction,
			    bool for_cpu)
{
	if (for_cpu)
		dma_sync_sgtable_for_cpu(dev, table, direction);
	else
		dma_sync_sgtable_for_device(dev, table, direction);
}

void kmap_helper_iosys_set(struct iosys_map *map, void *address)
{
	iosys_map_set_vaddr(map, address);
}
