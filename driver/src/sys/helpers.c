// SPDX-License-Identifier: GPL-2.0
/*
 * What Rust cannot call: macros, inline functions, and functions whose headers the kernel's Rust bindings
 * do not include. Each function does one thing; the rules are in Rust.
 */

#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/dma-buf.h>
#include <linux/dma-direct.h>
#include <linux/dma-heap.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/memcontrol.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/scatterlist.h>
#include <linux/sched.h>
#include <linux/uidgid.h>
#include <linux/user_namespace.h>

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

static bool dma_heaps;
module_param(dma_heaps, bool, 0444);
MODULE_PARM_DESC(dma_heaps, "Add /dev/dma_heap/mapbuf-*, which stay until the machine is rebooted, as the module does (default no)");

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

bool mapbuf_param_dma_heaps(void)
{
	return dma_heaps;
}

/* Pages and folios. */

u64 mapbuf_ram_bytes(void)
{
	return (u64)totalram_pages() << PAGE_SHIFT;
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

/* Fills an entry of a scatter list. Returns the next one. */
struct scatterlist *mapbuf_sg_set(struct scatterlist *sg, unsigned long pfn, unsigned int size)
{
	sg_set_page(sg, pfn_to_page(pfn), size, 0);
	return sg_next(sg);
}

/* Whether frames that follow each other have pages: none of them does, or each does. */
bool mapbuf_have_pages(unsigned long first, unsigned long count)
{
	return pfn_valid(first) && pfn_valid(first + count - 1);
}

/*
 * Tells importers to let go, and waits until none of their devices works with the memory. Each has it mapped until it
 * has come round to unmap it. As vfio_pci_dma_buf_move() of drivers/vfio/pci/vfio_pci_dmabuf.c.
 */
void mapbuf_invalidate(struct dma_buf *buffer)
{
	dma_resv_lock(buffer->resv, NULL);
	dma_buf_invalidate_mappings(buffer);
	dma_resv_wait_timeout(buffer->resv, DMA_RESV_USAGE_BOOKKEEP, false, MAX_SCHEDULE_TIMEOUT);
	dma_resv_unlock(buffer->resv);
}

/* Virtual memory areas. */

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

/* The calling thread. */

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

/* Devices that were given to us. */

void mapbuf_device_set_data(struct device *dev, void *data)
{
	dev_set_drvdata(dev, data);
}

void *mapbuf_device_data(struct device *dev)
{
	return dev_get_drvdata(dev);
}

const char *mapbuf_device_name(const struct device *dev)
{
	return dev_name(dev);
}

int mapbuf_device_node(struct device *dev)
{
	return dev_to_node(dev);
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
u32 mapbuf_device_iommu(struct device *dev, u32 *number)
{
	struct iommu_group *group = iommu_group_get(dev);
	struct iommu_domain *domain;

	*number = -1;
	if (!group)
		return 0;
	*number = iommu_group_id(group);
	iommu_group_put(group);
	domain = iommu_get_domain_for_dev(dev);
	if (!domain)
		return 0;
	return domain->type == IOMMU_DOMAIN_IDENTITY ? 1 : 2;
}

u32 mapbuf_pci_address(struct pci_dev *dev)
{
	return (u32)pci_domain_nr(dev->bus) << 16 | pci_dev_id(dev);
}

struct mapbuf_group {
	struct device *own;
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

	if (!driver || driver == group->own->driver)
		return 0;
	group->address = 0;
	if (dev_is_pci(dev)) {
		if (to_pci_dev(dev)->hdr_type != PCI_HEADER_TYPE_NORMAL)
			return 0;
		group->address = mapbuf_pci_address(to_pci_dev(dev));
	}
	return 1;
}

bool mapbuf_device_stranger(struct device *dev, u32 *address)
{
	struct iommu_group *group = iommu_group_get(dev);
	struct mapbuf_group found = { .own = dev };
	int stranger;

	if (!group)
		return false;
	stranger = iommu_group_for_each_dev(group, &found, mapbuf_is_stranger);
	iommu_group_put(group);
	*address = found.address;
	return stranger == 1;
}

/* Platform devices. */

#ifdef CONFIG_OF
static const struct of_device_id mapbuf_compatible[] = {
	{ .compatible = "mapbuf,buffer" },
	{ }
};
MODULE_DEVICE_TABLE(of, mapbuf_compatible);
#endif

const struct of_device_id *mapbuf_platform_compatible(void)
{
	return of_match_ptr(mapbuf_compatible);
}

/*
 * Coherent memory of the device is taken from what its node names first in `memory-region`, if it names any. That must be
 * a pool (`shared-dma-pool`): other memory would be taken instead, and nobody would know.
 */
int mapbuf_platform_take_memory(struct device *dev)
{
	if (!dev->of_node || !of_property_present(dev->of_node, "memory-region"))
		return 0;
	return of_reserved_mem_device_init(dev);
}

void mapbuf_platform_give_memory_back(struct device *dev)
{
	of_reserved_mem_device_release(dev);
}

/* PCI devices. */

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

/* Memory that a device of ours has addresses for. */

void kmap_helper_flush_iommu(struct device *dev);

/*
 * The last physical address that the device reaches, where its addresses are the machine's. dma_direct_map_phys() of
 * kernel/dma/direct.h warns about memory beyond it. U64_MAX where an IOMMU translates.
 */
u64 mapbuf_reach(struct device *dev)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);

	if (domain && domain->type != IOMMU_DOMAIN_IDENTITY)
		return U64_MAX;
	return dma_to_phys(dev, min_not_zero(dma_get_mask(dev), dev->bus_dma_limit));
}

/* As numbered by enum Direction. The bindings of 7.2 and 7.3 differ in what an enumeration is. */
static enum dma_data_direction mapbuf_direction(u32 direction)
{
	switch (direction) {
	case 1:
		return DMA_TO_DEVICE;
	case 2:
		return DMA_FROM_DEVICE;
	default:
		return DMA_BIDIRECTIONAL;
	}
}

int mapbuf_map_table(struct device *dev, struct sg_table *table, u32 direction)
{
	return dma_map_sgtable(dev, table, mapbuf_direction(direction), DMA_ATTR_NO_WARN);
}

/* Whether there is no memory that the device does not reach. */
bool mapbuf_reaches_all(struct device *dev)
{
	return mapbuf_reach(dev) >= dma_get_required_mask(dev);
}

/* dma-bufs of other drivers. */

struct sg_table *mapbuf_import_map(struct dma_buf_attachment *attachment, u32 direction)
{
	return dma_buf_map_attachment_unlocked(attachment, mapbuf_direction(direction));
}

/* Afterwards the IOMMU has forgotten the pages. */
void mapbuf_import_unmap(struct dma_buf_attachment *attachment, struct sg_table *table, u32 direction)
{
	dma_buf_unmap_attachment_unlocked(attachment, table, mapbuf_direction(direction));
	kmap_helper_flush_iommu(attachment->dev);
}

int mapbuf_cpu_access(struct dma_buf *buffer, u32 direction, bool begin)
{
	if (begin)
		return dma_buf_begin_cpu_access(buffer, mapbuf_direction(direction));
	return dma_buf_end_cpu_access(buffer, mapbuf_direction(direction));
}

/* What was unmapped for a device before: afterwards the IOMMU has forgotten it. */
void mapbuf_forget(struct device *dev)
{
	kmap_helper_flush_iommu(dev);
}

/* Memory of ours. Afterwards the pages may be given back: the IOMMU has forgotten them. */
void mapbuf_unmap_table(struct device *dev, struct sg_table *table, u32 direction)
{
	dma_unmap_sgtable(dev, table, mapbuf_direction(direction), DMA_ATTR_NO_WARN);
	kmap_helper_flush_iommu(dev);
}

/* An entry of a list as it was mapped: its address and length for the device. Returns the next one. */
struct scatterlist *mapbuf_sg_mapped(struct scatterlist *sg, u64 *address, u64 *length)
{
	*address = sg_dma_address(sg);
	*length = sg_dma_len(sg);
	return sg_next(sg);
}

bool mapbuf_needs_sync(struct device *dev, u64 address)
{
	return !dev_is_dma_coherent(dev) || dma_need_sync(dev, address);
}

void mapbuf_sync_range(struct device *dev, u64 address, size_t size, u32 direction, bool for_cpu)
{
	if (for_cpu)
		dma_sync_single_for_cpu(dev, address, size, mapbuf_direction(direction));
	else
		dma_sync_single_for_device(dev, address, size, mapbuf_direction(direction));
}

/* dma-heaps. */

typedef struct dma_buf *mapbuf_allocate(void *serves, unsigned long bytes, u32 flags);

#if IS_ENABLED(CONFIG_DMABUF_HEAPS)
struct mapbuf_heap {
	mapbuf_allocate *allocate;
	void *serves;
};

static struct dma_buf *mapbuf_heap_allocate(struct dma_heap *heap, unsigned long len, u32 fd_flags,
					    u64 heap_flags)
{
	struct mapbuf_heap *ours = dma_heap_get_drvdata(heap);

	return ours->allocate(ours->serves, len, fd_flags);
}

static const struct dma_heap_ops mapbuf_heap_ops = {
	.allocate = mapbuf_heap_allocate,
};
#endif

/* What is added stays, so this keeps the module. */
int mapbuf_add_heap(const char *name, mapbuf_allocate *allocate, void *serves)
{
#if IS_ENABLED(CONFIG_DMABUF_HEAPS)
	struct dma_heap_export_info info = { .name = name, .ops = &mapbuf_heap_ops };
	struct mapbuf_heap *ours = kmalloc(sizeof(*ours), GFP_KERNEL);
	struct dma_heap *heap;

	if (!ours)
		return -ENOMEM;
	ours->allocate = allocate;
	ours->serves = serves;
	info.priv = ours;
	heap = dma_heap_add(&info);
	if (IS_ERR(heap)) {
		kfree(ours);
		return PTR_ERR(heap);
	}
	__module_get(THIS_MODULE);
	return 0;
#else
	return -EOPNOTSUPP;
#endif
}

const struct cred *mapbuf_current_cred(void)
{
	return current_cred();
}
