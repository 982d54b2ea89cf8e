// SPDX-License-Identifier: GPL-2.0
/*
 * What Rust cannot call: macros, inline functions, and functions whose headers the kernel's Rust bindings
 * do not include. Each function does one thing; the rules are in Rust.
 */

#include <linux/capability.h>
#include <linux/cma.h>
#include <linux/cpuset.h>
#include <linux/cred.h>
#include <linux/dma-buf.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/iosys-map.h>
#include <linux/ioport.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/memcontrol.h>
#include <linux/mempolicy.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/nodemask.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/uio.h>
#include <linux/uidgid.h>
#include <linux/user_namespace.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#ifdef CONFIG_X86
#include <asm/cacheflush.h>
#include <asm/coco.h>
#include <asm/set_memory.h>
#endif

/* Their only callers are the declarations in helpers.rs. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

/* Module parameters: macros, and `module!` cannot make writable ones. */

static unsigned long long max_bytes;
module_param(max_bytes, ullong, 0644);
MODULE_PARM_DESC(max_bytes, "Most bytes in all buffers together (0: half of the memory)");

static unsigned long long max_bytes_per_user;
module_param(max_bytes_per_user, ullong, 0644);
MODULE_PARM_DESC(max_bytes_per_user, "Most bytes in one user's buffers (0: as max_bytes)");

static unsigned int max_buffers = 65536;
module_param(max_buffers, uint, 0644);
MODULE_PARM_DESC(max_buffers, "Most buffers of one open allocator node (default 65536)");

static unsigned int max_names = 256;
module_param(max_names, uint, 0644);
MODULE_PARM_DESC(max_names, "Most named buffers (default 256)");

static bool expose_dma;
module_param(expose_dma, bool, 0644);
MODULE_PARM_DESC(expose_dma, "Show DMA addresses of the system node to all its users (default no)");

/*
 * As module_param_string() has it, with the flag of module_param_hw_named(): who sets it chooses physical addresses, and
 * kernel lockdown forbids that (param_check_unsafe() of kernel/params.c). There is no macro for a string with the flag.
 */
static char regions[4096];
static const struct kparam_string mapbuf_regions_string = { sizeof(regions), regions };
__module_param_call(MODULE_PARAM_PREFIX, regions, &param_ops_string, .str = &mapbuf_regions_string, 0444,
		    -1, KERNEL_PARAM_FL_HWPARAM | (hwparam_iomem & 0));
__MODULE_PARM_TYPE(regions, "string");
MODULE_PARM_DESC(regions, "Reserved ranges: NAME:START:SIZE:ram|mmio[:cached|wc|uc][:8|16|32|64][:probe][:trust],...");

/* Written before the module is started, and never after. */
const char *mapbuf_param_regions(void)
{
	return regions;
}

u64 mapbuf_param_max_bytes(void)
{
	return READ_ONCE(max_bytes);
}

u64 mapbuf_param_max_bytes_per_user(void)
{
	return READ_ONCE(max_bytes_per_user);
}

u32 mapbuf_param_max_buffers(void)
{
	return READ_ONCE(max_buffers);
}

u32 mapbuf_param_max_names(void)
{
	return READ_ONCE(max_names);
}

bool mapbuf_param_expose_dma(void)
{
	return READ_ONCE(expose_dma);
}

/* Pages and folios. */

u64 mapbuf_ram_bytes(void)
{
	return (u64)totalram_pages() << PAGE_SHIFT;
}

/* How much can be allocated without swapping, by the kernel's own estimate. */
u64 mapbuf_available_bytes(void)
{
	return (u64)max(si_mem_available(), 0L) << PAGE_SHIFT;
}

unsigned long mapbuf_page_to_pfn(const struct page *page)
{
	return page_to_pfn(page);
}

struct page *mapbuf_pfn_to_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}

struct page *mapbuf_page_at(struct page *page, unsigned long index)
{
	return pfn_to_page(page_to_pfn(page) + index);
}

void *mapbuf_page_address(const struct page *page)
{
	return page_address(page);
}

void mapbuf_get_page(struct page *page)
{
	get_page(page);
}

void mapbuf_put_page(struct page *page)
{
	put_page(page);
}

struct folio *mapbuf_page_folio(struct page *page)
{
	return page_folio(page);
}

bool mapbuf_begins_folio(struct page *page, unsigned long count)
{
	return PageHead(page) && folio_nr_pages(page_folio(page)) == count;
}

void mapbuf_set_folio_index(struct page *page, pgoff_t index)
{
	page_folio(page)->index = index;
}

struct page *mapbuf_alloc_pages_node(int nid, gfp_t gfp, unsigned int order)
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
static void mapbuf_allowed_nodes(nodemask_t *nodes)
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
bool mapbuf_node_allowed(int nid)
{
	return nid >= 0 && nid < MAX_NUMNODES && node_isset(nid, cpuset_current_mems_allowed);
}

/* A frame without a page, like those of a device's own memory, is on no node that a cpuset could name. */
bool mapbuf_frame_allowed(unsigned long pfn)
{
	return !pfn_valid(pfn) || mapbuf_node_allowed(page_to_nid(pfn_to_page(pfn)));
}

/* alloc_contig_pages() does not take NUMA_NO_NODE: it uses the node's zone list unchecked. */
struct page *mapbuf_alloc_contig(unsigned long count, gfp_t gfp, int nid)
{
	nodemask_t nodes;

	/* It ignores cpusets (alloc_contig_frozen_pages_noprof() of mm/page_alloc.c). */
	mapbuf_allowed_nodes(&nodes);
	return alloc_contig_pages(count, gfp, nid == NUMA_NO_NODE ? numa_mem_id() : nid, &nodes);
}

/* alloc_contig_frozen_range() warns about a larger folio. */
unsigned int mapbuf_max_folio_order(void)
{
	return MAX_FOLIO_ORDER;
}

/* The same as one folio of any size up to that, as hugetlb gets its gigantic folios. It comes without a reference. */
struct page *mapbuf_alloc_contig_folio(unsigned int order, gfp_t gfp, int nid)
{
	struct page *page;
	nodemask_t nodes;

	mapbuf_allowed_nodes(&nodes);
	if (nid == NUMA_NO_NODE)
		nid = numa_mem_id();
	page = alloc_contig_frozen_pages(1UL << order, gfp | __GFP_COMP, nid, &nodes);
	if (page)
		init_page_count(page);
	return page;
}

/*
 * Folios of freed buffers to which somebody else still refers, on a list linked by folio->lru. The owner may use that
 * while the folios are on no LRU list and not in the page cache. A folio with no reference but ours gets no other:
 * nothing leads to it.
 */

void mapbuf_init_list(struct list_head *list)
{
	INIT_LIST_HEAD(list);
}

/* Frees a folio or keeps it. Returns how many pages are kept. */
unsigned long mapbuf_park(struct list_head *list, struct page *page)
{
	struct folio *folio = page_folio(page);

	if (folio_ref_count(folio) == 1) {
		folio_put(folio);
		return 0;
	}
	list_add(&folio->lru, list);
	return folio_nr_pages(folio);
}

/* Returns how many pages are left. */
unsigned long mapbuf_sweep_parked(struct list_head *list)
{
	struct folio *folio, *next;
	unsigned long left = 0;

	list_for_each_entry_safe(folio, next, list, lru) {
		if (folio_ref_count(folio) == 1) {
			list_del(&folio->lru);
			folio_put(folio);
		} else {
			left += folio_nr_pages(folio);
		}
		cond_resched();
	}
	return left;
}

void mapbuf_drop_parked(struct list_head *list)
{
	struct folio *folio, *next;

	list_for_each_entry_safe(folio, next, list, lru) {
		list_del(&folio->lru);
		folio_put(folio);
		cond_resched();
	}
}

void mapbuf_init_delayed_work(struct delayed_work *work, work_func_t run)
{
	INIT_DELAYED_WORK(work, run);
}

bool mapbuf_node_has_memory(int nid)
{
	return nid >= 0 && nid < MAX_NUMNODES && node_state(nid, N_MEMORY);
}

unsigned int mapbuf_pmd_order(void)
{
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	return HPAGE_PMD_ORDER;
#else
	return 0;
#endif
}

void *mapbuf_vmap(struct page **pages, unsigned int count, u32 cache)
{
	pgprot_t prot = PAGE_KERNEL;

	if (cache == 1)
		prot = pgprot_writecombine(prot);
	else if (cache == 2)
		prot = pgprot_noncached(prot);
	return vmap(pages, count, VM_MAP | VM_USERMAP, prot);
}

void mapbuf_vunmap(const void *area)
{
	vunmap(area);
}

unsigned long mapbuf_virt_to_pfn(const void *address)
{
	if (is_vmalloc_addr(address))
		return vmalloc_to_pfn(address);
	return PHYS_PFN(virt_to_phys((void *)address));
}

/*
 * Cache modes of the kernel's own view, numbered as enum Cache. They must be the same as those of the
 * user's views: two views of one page with different modes are undefined on x86.
 */
int mapbuf_set_cache(struct page **pages, int count, u32 cache)
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

bool mapbuf_cma_exists(void)
{
	return dev_get_cma_area(NULL);
}

struct page *mapbuf_cma_alloc(unsigned long count, unsigned int align)
{
	struct cma *area = dev_get_cma_area(NULL);
	struct page *pages = area ? cma_alloc(area, count, align, true) : NULL;

	/* The area has a fixed place, which may lie outside the caller's cpuset. */
	if (pages && !mapbuf_node_allowed(page_to_nid(pages))) {
		cma_release(area, pages, count);
		return NULL;
	}
	return pages;
}

void mapbuf_cma_release(struct page *pages, unsigned long count)
{
	cma_release(dev_get_cma_area(NULL), pages, count);
}

/* dma-bufs: what /proc/PID/maps and bufinfo show. Takes the string over. */
void mapbuf_name_dmabuf(struct dma_buf *buffer, const char *name)
{
	const char *old;

	spin_lock(&buffer->name_lock);
	old = buffer->name;
	buffer->name = name;
	spin_unlock(&buffer->name_lock);
	kfree(old);
}

/* Importers of our dma-bufs. */

unsigned int mapbuf_max_segment(struct device *dev)
{
	return dma_get_max_seg_size(dev);
}

/* Fills an entry of a scatter list. Returns the next one. */
struct scatterlist *mapbuf_sg_set(struct scatterlist *sg, unsigned long pfn, unsigned int size)
{
	sg_set_page(sg, pfn_to_page(pfn), size, 0);
	return sg_next(sg);
}

void mapbuf_sync_table(struct device *dev, struct sg_table *table, enum dma_data_direction direction,
		       bool for_cpu)
{
	if (for_cpu)
		dma_sync_sgtable_for_cpu(dev, table, direction);
	else
		dma_sync_sgtable_for_device(dev, table, direction);
}

void mapbuf_iosys_set(struct iosys_map *map, void *address)
{
	iosys_map_set_vaddr(map, address);
}

/* Physical ranges. */

bool mapbuf_range_is_ram(u64 start, u64 size)
{
	return region_intersects(start, size, IORESOURCE_SYSTEM_RAM, IORES_DESC_NONE) !=
	       REGION_DISJOINT;
}

/*
 * Whether a view is cached: where a range register says otherwise, memremap() makes an uncached one of it,
 * without an error (is_new_memtype_allowed() of arch/x86/include/asm/pgtable.h).
 */
bool mapbuf_is_cached(const void *view)
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
void *mapbuf_map_view(u64 start, u64 size, u32 cache)
{
	void *view;

	switch (cache) {
	case 0:
		view = memremap(start, size, MEMREMAP_WB);
		if (view && !mapbuf_is_cached(view)) {
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

void mapbuf_unmap_view(void *view, u32 cache)
{
	if (cache == 0)
		memunmap(view);
	else
		iounmap((__force void __iomem *)view);
}

u64 mapbuf_read_word(const void *address, u32 width)
{
	const void __iomem *from = (__force const void __iomem *)address;

	switch (width) {
	case 8:
		return readb(from);
	case 16:
		return readw(from);
	case 32:
		return readl(from);
	default:
		return readq(from);
	}
}

void mapbuf_write_word(void *address, u64 word, u32 width)
{
	void __iomem *to = (__force void __iomem *)address;

	switch (width) {
	case 8:
		writeb(word, to);
		break;
	case 16:
		writew(word, to);
		break;
	case 32:
		writel(word, to);
		break;
	default:
		writeq(word, to);
	}
}

/* Takes a word out of the caches, so that the next read asks the memory. */
void mapbuf_flush(void *address, unsigned long size)
{
#ifdef CONFIG_X86
	clflush_cache_range(address, size);
#endif
	mb();
}

/* Virtual memory areas. */

int mapbuf_remap_vmalloc_range(struct vm_area_struct *vma, void *address, unsigned long page)
{
	return remap_vmalloc_range(vma, address, page);
}

int mapbuf_io_remap_pfn_range(struct vm_area_struct *vma, unsigned long address, unsigned long pfn,
			      unsigned long size)
{
	return io_remap_pfn_range(vma, address, pfn, size, vma->vm_page_prot);
}

void mapbuf_vma_flags(struct vm_area_struct *vma, vm_flags_t set, vm_flags_t clear)
{
	vm_flags_mod(vma, set, clear);
}

/* Whether the kernel has memory mapped as encrypted, in a confidential guest. Elsewhere nothing is. */
bool mapbuf_is_encrypted(const void *view)
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
void mapbuf_vma_protection(struct vm_area_struct *vma, u32 cache, const void *view)
{
	pgprot_t prot = vma->vm_page_prot;

	if (cache == 1)
		prot = pgprot_writecombine(prot);
	else if (cache == 2)
		prot = pgprot_noncached(prot);
	if (!mapbuf_is_encrypted(view))
		prot = pgprot_decrypted(prot);
	vma->vm_page_prot = prot;
}

/* The VMAs that map a file: the interval tree's own walkers are not exported. */
unsigned int mapbuf_count_mappings(struct file *file)
{
	struct address_space *mapping = file->f_mapping;
	struct rb_node *node;
	unsigned int count = 0;

	i_mmap_lock_read(mapping);
	for (node = rb_first_cached(&mapping->i_mmap); node; node = rb_next(node))
		count++;
	i_mmap_unlock_read(mapping);
	return count;
}

struct cdev *mapbuf_inode_device(const struct inode *inode)
{
	return inode->i_cdev;
}

/* The user address of the next byte of a request. */
unsigned long mapbuf_iter_address(const struct iov_iter *iter)
{
	if (iter_is_ubuf(iter) || iter_is_iovec(iter))
		return (unsigned long)iter_iov_addr(iter);
	return 0;
}

void mapbuf_memcpy(void *to, const void *from, unsigned long size)
{
	memcpy(to, from, size);
}

/* The calling thread. */

void mapbuf_cond_resched(void)
{
	cond_resched();
}

bool mapbuf_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

u64 mapbuf_current_start(void)
{
	return current->start_boottime;
}

u32 mapbuf_current_number(void)
{
	return task_pid_vnr(current);
}

/*
 * Bytes left in the caller's memory cgroup or one of its ancestors, whichever has the least, and the limit of that one.
 * U64_MAX for both if there is no limit.
 */
u64 mapbuf_cgroup_room(u64 *limit)
{
	u64 room = U64_MAX;
#ifdef CONFIG_MEMCG
	struct mem_cgroup *group;
#endif

	*limit = U64_MAX;
#ifdef CONFIG_MEMCG
	rcu_read_lock();
	group = mem_cgroup_from_task(current);
	for (; group; group = parent_mem_cgroup(group)) {
		u64 most = READ_ONCE(group->memory.max);
		u64 used = page_counter_read(&group->memory);
		u64 left = used < most ? (most - used) << PAGE_SHIFT : 0;

		if (most < PAGE_COUNTER_MAX && left < room) {
			room = left;
			*limit = most << PAGE_SHIFT;
		}
	}
	rcu_read_unlock();
#endif
	return room;
}

u32 mapbuf_current_uid(void)
{
	return from_kuid(&init_user_ns, current_fsuid());
}

u32 mapbuf_current_gid(void)
{
	return from_kgid(&init_user_ns, current_fsgid());
}

/* Translates a uid or gid of the caller's user namespace to the initial one; -1: there is none. */
u32 mapbuf_uid_from_caller(u32 uid)
{
	kuid_t kuid = make_kuid(current_user_ns(), uid);

	return uid_valid(kuid) ? from_kuid(&init_user_ns, kuid) : (u32)-1;
}

u32 mapbuf_gid_from_caller(u32 gid)
{
	kgid_t kgid = make_kgid(current_user_ns(), gid);

	return gid_valid(kgid) ? from_kgid(&init_user_ns, kgid) : (u32)-1;
}

bool mapbuf_in_group(u32 gid)
{
	return in_group_p(make_kgid(&init_user_ns, gid));
}

/* Whether the caller may see something that is otherwise left out. A denial is not audited. */
bool mapbuf_may_see(int capability)
{
	return ns_capable_noaudit(&init_user_ns, capability);
}

void mapbuf_set_owner(u32 uid, u32 gid, kuid_t *kuid, kgid_t *kgid)
{
	*kuid = make_kuid(&init_user_ns, uid);
	*kgid = make_kgid(&init_user_ns, gid);
}

/*
 * The users who are charged for what is allocated with these credentials, by uid of the initial user namespace: their
 * holder, and the owner of each namespace up to the initial one. Returns how many there are; writes as many as fit.
 */
u32 mapbuf_payers(const struct cred *cred, u32 *uids, u32 most)
{
	struct user_namespace *ns;
	u32 count = 0;

	if (count < most)
		uids[count] = from_kuid(&init_user_ns, cred->uid);
	count++;
	for (ns = cred->user_ns; ns != &init_user_ns; ns = ns->parent) {
		if (count < most)
			uids[count] = from_kuid(&init_user_ns, ns->owner);
		count++;
	}
	return count;
}

/* PCI devices. */

void mapbuf_pci_set_data(struct pci_dev *dev, void *data)
{
	pci_set_drvdata(dev, data);
}

void *mapbuf_pci_data(struct pci_dev *dev)
{
	return pci_get_drvdata(dev);
}

const char *mapbuf_pci_name(const struct pci_dev *dev)
{
	return pci_name(dev);
}

u32 mapbuf_pci_address(struct pci_dev *dev)
{
	return (u32)pci_domain_nr(dev->bus) << 16 | pci_dev_id(dev);
}

int mapbuf_pci_node(struct pci_dev *dev)
{
	return dev_to_node(&dev->dev);
}

bool mapbuf_device_coherent(struct device *dev)
{
	return dev_is_dma_coherent(dev);
}

u32 mapbuf_dma_bits(struct device *dev)
{
	return fls64(dma_get_mask(dev));
}

/* What stands between the device and memory: 0 nothing, 1 an IOMMU that lets all through, 2 one that does not. */
u32 mapbuf_pci_iommu(struct pci_dev *dev, u32 *number)
{
	struct iommu_group *group = iommu_group_get(&dev->dev);
	struct iommu_domain *domain;

	*number = -1;
	if (!group)
		return 0;
	*number = iommu_group_id(group);
	iommu_group_put(group);
	domain = iommu_get_domain_for_dev(&dev->dev);
	if (!domain)
		return 0;
	return domain->type == IOMMU_DOMAIN_IDENTITY ? 1 : 2;
}

struct mapbuf_group {
	struct pci_dev *own;
	u32 address;
};

/*
 * Bridges have drivers that do no DMA for anybody. A driver's name is not looked at
 * without the lock of its device: dev->driver may be cleared at any moment, but what it pointed to is compared only.
 */
static int mapbuf_is_stranger(struct device *dev, void *data)
{
	const struct device_driver *driver = READ_ONCE(dev->driver);
	struct mapbuf_group *group = data;

	if (!driver || driver == group->own->dev.driver)
		return 0;
	group->address = 0;
	if (dev_is_pci(dev)) {
		if (to_pci_dev(dev)->hdr_type != PCI_HEADER_TYPE_NORMAL)
			return 0;
		group->address = mapbuf_pci_address(to_pci_dev(dev));
	}
	return 1;
}

bool mapbuf_pci_stranger(struct pci_dev *dev, u32 *address)
{
	struct iommu_group *group = iommu_group_get(&dev->dev);
	struct mapbuf_group found = { .own = dev };
	int stranger;

	if (!group)
		return false;
	stranger = iommu_group_for_each_dev(group, &found, mapbuf_is_stranger);
	iommu_group_put(group);
	*address = found.address;
	return stranger == 1;
}

u32 mapbuf_pci_vectors(struct pci_dev *dev, u32 kind)
{
	int count;

	switch (kind) {
	case 0:
		return dev->pin && dev->irq ? 1 : 0;
	case 1:
		count = pci_msi_vec_count(dev);
		break;
	default:
		count = pci_msix_vec_count(dev);
	}
	return max(count, 0);
}

/* The size of what a base address register leads to, and the bits of MAPBUF_BAR_*. */
u64 mapbuf_pci_bar(struct pci_dev *dev, unsigned int index, u32 *flags)
{
	unsigned long resource = pci_resource_flags(dev, index);
	u32 table, pending;

	*flags = 0;
	if (!pci_resource_len(dev, index) || resource & IORESOURCE_UNSET)
		return 0;
	if (resource & IORESOURCE_MEM)
		*flags |= 1;
	if (resource & IORESOURCE_IO)
		*flags |= 2;
	if (resource & IORESOURCE_PREFETCH)
		*flags |= 4;
	if (dev->msix_cap) {
		pci_read_config_dword(dev, dev->msix_cap + PCI_MSIX_TABLE, &table);
		pci_read_config_dword(dev, dev->msix_cap + PCI_MSIX_PBA, &pending);
		if ((table & PCI_MSIX_TABLE_BIR) == index || (pending & PCI_MSIX_PBA_BIR) == index)
			*flags |= 8;
	}
	return pci_resource_len(dev, index);
}
