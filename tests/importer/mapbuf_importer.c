// SPDX-License-Identifier: GPL-2.0
/*
 * Another driver at the other end of a dma-buf, for tests: an open file of /dev/mapbuf-importer attaches a device to one
 * dma-buf, as drivers do that let go when they are told to or as those that do not, reads through the device's
 * addresses, and tells what it was told. It also exports one of its own, and takes it back.
 */
#include <linux/delay.h>
#include <linux/dma-buf.h>
#include <linux/dma-direct.h>
#include <linux/dma-fence.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/iommu.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

/* How an importer behaves. */
#define LETS_GO		1	/* Has invalidate_mappings. */
#define AT_ONCE		2	/* Unmaps in it; otherwise some time later, with a fence until then. */
#define NEVER		4	/* Says that it lets go, and does not. */

struct attach {
	__s32 fd;
	__u32 flags;
	/* A PCI device's address, or nothing: a device of the module's own. */
	char device[32];
};

struct at {
	__u64 offset;
	__u64 value;
};

struct told {
	__u32 invalidated;
	__u32 mapped;
	/* Whether the exporter waited for the fence: the memory could be read when it was about to be signalled. */
	__u32 read_at_last;
	__u32 pinned;
};

#define ATTACH		_IOW('t', 1, struct attach)
#define MAP		_IO('t', 2)
#define UNMAP		_IO('t', 3)
#define DETACH		_IO('t', 4)
/* Through the addresses that the device has now. */
#define READ_WORD		_IOWR('t', 5, struct at)
#define TOLD		_IOR('t', 6, struct told)
/* Through the addresses that the device had last: ENXIO where its IOMMU leads nowhere. */
#define READ_WORD_STALE	_IOWR('t', 7, struct at)
/* A dma-buf of one page, of which the file is the exporter: 1 asks for importers that let go. */
#define EXPORT		_IO('t', 8)
/* Takes its memory back. */
#define REVOKE		_IO('t', 9)
/* Once more for the same attachment, and not for long. */
#define MAP_AGAIN	_IO('t', 10)

static struct platform_device *own;

struct importer {
	struct dma_buf *buffer;
	struct dma_buf_attachment *attachment;
	struct sg_table *table;
	struct device *device;
	u32 flags;
	u32 invalidated;
	u32 read_at_last;
	u64 stale;
	struct dma_fence *fence;
	struct delayed_work late;
	/* As an exporter. */
	struct dma_buf *exported;
	struct page *page;
	bool asks;
	bool revoked;
	atomic_t pinned;
	struct mutex lock;
};

/* Where an address of the device's leads to; 0: nowhere. */
static phys_addr_t leads_to(struct device *device, dma_addr_t address)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(device);

	return domain ? iommu_iova_to_phys(domain, address) : dma_to_phys(device, address);
}

static int read_address(struct importer *this, dma_addr_t address, u64 *value)
{
	phys_addr_t phys = leads_to(this->device, address);
	char *mapped;

	if (!phys || !pfn_valid(PHYS_PFN(phys)))
		return -ENXIO;
	mapped = kmap_local_page(pfn_to_page(PHYS_PFN(phys)));
	*value = READ_ONCE(*(u64 *)(mapped + offset_in_page(phys & ~7ull)));
	kunmap_local(mapped);
	return 0;
}

/* With the reservation lock. */
static int read_table(struct importer *this, u64 offset, u64 *value)
{
	struct scatterlist *sg;
	int i;

	if (!this->table)
		return -ENODATA;
	for_each_sgtable_dma_sg(this->table, sg, i) {
		if (offset < sg_dma_len(sg))
			return read_address(this, sg_dma_address(sg) + offset, value);
		offset -= sg_dma_len(sg);
	}
	return -EINVAL;
}

static void unmap(struct importer *this)
{
	dma_resv_assert_held(this->buffer->resv);
	if (this->table)
		dma_buf_unmap_attachment(this->attachment, this->table, DMA_BIDIRECTIONAL);
	this->table = NULL;
}

static const char *name_of_fence(struct dma_fence *fence)
{
	return "mapbuf-importer";
}

static const struct dma_fence_ops fence_ops = {
	.get_driver_name = name_of_fence,
	.get_timeline_name = name_of_fence,
};

static DEFINE_SPINLOCK(fences);

static void come_round(struct work_struct *work)
{
	struct importer *this = container_of(work, struct importer, late.work);
	u64 value;

	/* The device works with the memory until now. The exporter holds the reservation lock, and waits. */
	this->read_at_last = this->table && !read_table(this, 0, &value);
	dma_fence_signal(this->fence);
	msleep(100);
	dma_resv_lock(this->buffer->resv, NULL);
	unmap(this);
	dma_resv_unlock(this->buffer->resv);
}

static void invalidate(struct dma_buf_attachment *attachment)
{
	struct importer *this = attachment->importer_priv;

	dma_resv_assert_held(attachment->dmabuf->resv);
	WRITE_ONCE(this->invalidated, this->invalidated + 1);
	if (this->flags & NEVER)
		return;
	if (this->flags & AT_ONCE)
		unmap(this);
	else
		schedule_delayed_work(&this->late, msecs_to_jiffies(200));
}

static const struct dma_buf_attach_ops lets_go = {
	.invalidate_mappings = invalidate,
};

static int attach(struct importer *this, const struct attach *wish)
{
	struct dma_buf_attachment *attachment;
	struct device *device = &own->dev;

	if (this->attachment)
		return -EBUSY;
	if (wish->device[0]) {
		device = bus_find_device_by_name(&pci_bus_type, NULL, wish->device);
		if (!device)
			return -ENODEV;
	} else {
		get_device(device);
	}
	this->buffer = dma_buf_get(wish->fd);
	if (IS_ERR(this->buffer)) {
		put_device(device);
		return PTR_ERR(this->buffer);
	}
	this->flags = wish->flags;
	attachment = dma_buf_dynamic_attach(this->buffer, device, wish->flags & LETS_GO ? &lets_go : NULL, this);
	if (IS_ERR(attachment)) {
		dma_buf_put(this->buffer);
		put_device(device);
		return PTR_ERR(attachment);
	}
	this->attachment = attachment;
	this->device = device;
	return 0;
}

static int map(struct importer *this)
{
	struct sg_table *table;
	int ret = -EBUSY;

	if (!this->attachment)
		return -EINVAL;
	dma_resv_lock(this->buffer->resv, NULL);
	if (!this->table) {
		table = dma_buf_map_attachment(this->attachment, DMA_BIDIRECTIONAL);
		ret = PTR_ERR_OR_ZERO(table);
	}
	if (!ret) {
		this->table = table;
		this->stale = sg_dma_address(table->sgl);
		/* The device works with it from now on. */
		if (this->flags == LETS_GO && !this->fence) {
			ret = dma_resv_reserve_fences(this->buffer->resv, 1);
			this->fence = ret ? NULL : kzalloc(sizeof(*this->fence), GFP_KERNEL);
			if (this->fence) {
				dma_fence_init(this->fence, &fence_ops, &fences, dma_fence_context_alloc(1), 1);
				dma_resv_add_fence(this->buffer->resv, this->fence, DMA_RESV_USAGE_BOOKKEEP);
			}
		}
	}
	dma_resv_unlock(this->buffer->resv);
	return ret;
}

static int map_again(struct importer *this)
{
	struct sg_table *table;
	int ret = -EINVAL;

	if (!this->attachment)
		return ret;
	dma_resv_lock(this->buffer->resv, NULL);
	if (this->table) {
		table = dma_buf_map_attachment(this->attachment, DMA_BIDIRECTIONAL);
		ret = PTR_ERR_OR_ZERO(table);
		if (!ret)
			dma_buf_unmap_attachment(this->attachment, table, DMA_BIDIRECTIONAL);
	}
	dma_resv_unlock(this->buffer->resv);
	return ret;
}

static void detach(struct importer *this)
{
	if (!this->attachment)
		return;
	if (this->fence)
		flush_delayed_work(&this->late);
	dma_resv_lock(this->buffer->resv, NULL);
	unmap(this);
	dma_resv_unlock(this->buffer->resv);
	dma_buf_detach(this->buffer, this->attachment);
	this->attachment = NULL;
	if (this->fence) {
		dma_fence_signal(this->fence);
		dma_fence_put(this->fence);
		this->fence = NULL;
	}
	dma_buf_put(this->buffer);
	put_device(this->device);
}

/* The other way round: a dma-buf of this module's. */

static int exporter_attach(struct dma_buf *buffer, struct dma_buf_attachment *attachment)
{
	struct importer *this = buffer->priv;

	return this->asks && !dma_buf_attach_revocable(attachment) ? -EOPNOTSUPP : 0;
}

static int exporter_pin(struct dma_buf_attachment *attachment)
{
	struct importer *this = attachment->dmabuf->priv;

	atomic_inc(&this->pinned);
	return 0;
}

static void exporter_unpin(struct dma_buf_attachment *attachment)
{
	struct importer *this = attachment->dmabuf->priv;

	atomic_dec(&this->pinned);
}

static struct sg_table *exporter_map(struct dma_buf_attachment *attachment, enum dma_data_direction direction)
{
	struct importer *this = attachment->dmabuf->priv;
	struct sg_table *table;
	int ret;

	if (this->revoked)
		return ERR_PTR(-ENODEV);
	table = kzalloc(sizeof(*table), GFP_KERNEL);
	if (!table)
		return ERR_PTR(-ENOMEM);
	ret = sg_alloc_table_from_pages(table, &this->page, 1, 0, PAGE_SIZE, GFP_KERNEL);
	if (!ret) {
		ret = dma_map_sgtable(attachment->dev, table, direction, 0);
		if (!ret)
			return table;
		sg_free_table(table);
	}
	kfree(table);
	return ERR_PTR(ret);
}

static void exporter_unmap(struct dma_buf_attachment *attachment, struct sg_table *table,
			   enum dma_data_direction direction)
{
	dma_unmap_sgtable(attachment->dev, table, direction, 0);
	sg_free_table(table);
	kfree(table);
}

static vm_fault_t exporter_fault(struct vm_fault *vmf)
{
	struct importer *this = vmf->vma->vm_private_data;
	vm_fault_t ret = VM_FAULT_SIGBUS;

	dma_resv_lock(this->exported->resv, NULL);
	if (!this->revoked && !vmf->pgoff) {
		get_page(this->page);
		vmf->page = this->page;
		ret = 0;
	}
	dma_resv_unlock(this->exported->resv);
	return ret;
}

static const struct vm_operations_struct exporter_vm_ops = {
	.fault = exporter_fault,
};

static int exporter_mmap(struct dma_buf *buffer, struct vm_area_struct *vma)
{
	vma->vm_ops = &exporter_vm_ops;
	vma->vm_private_data = buffer->priv;
	return 0;
}

static void exporter_release(struct dma_buf *buffer)
{
	struct importer *this = buffer->priv;

	__free_page(this->page);
	kfree(this);
}

static const struct dma_buf_ops exporter_ops = {
	.attach = exporter_attach,
	.pin = exporter_pin,
	.unpin = exporter_unpin,
	.map_dma_buf = exporter_map,
	.unmap_dma_buf = exporter_unmap,
	.mmap = exporter_mmap,
	.release = exporter_release,
};

/* Returns a descriptor. The state of the exporter lives as long as the dma-buf, on which the file has a reference. */
static long export(struct importer *this, bool asks)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct importer *exporter;
	struct dma_buf *buffer;
	int fd;

	if (this->exported)
		return -EBUSY;
	exporter = kzalloc(sizeof(*exporter), GFP_KERNEL);
	if (!exporter)
		return -ENOMEM;
	exporter->asks = asks;
	exporter->page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	info.ops = &exporter_ops;
	info.size = PAGE_SIZE;
	info.flags = O_RDWR | O_CLOEXEC;
	info.priv = exporter;
	buffer = exporter->page ? dma_buf_export(&info) : ERR_PTR(-ENOMEM);
	if (IS_ERR(buffer)) {
		if (exporter->page)
			__free_page(exporter->page);
		kfree(exporter);
		return PTR_ERR(buffer);
	}
	exporter->exported = buffer;
	this->exported = buffer;
	get_dma_buf(buffer);
	fd = dma_buf_fd(buffer, O_CLOEXEC);
	if (fd < 0)
		dma_buf_put(buffer);
	return fd;
}

static int revoke(struct importer *this)
{
	struct importer *exporter;

	if (!this->exported)
		return -EINVAL;
	exporter = this->exported->priv;
	dma_resv_lock(this->exported->resv, NULL);
	if (atomic_read(&exporter->pinned)) {
		dma_resv_unlock(this->exported->resv);
		return -EBUSY;
	}
	exporter->revoked = true;
	dma_buf_invalidate_mappings(this->exported);
	dma_resv_wait_timeout(this->exported->resv, DMA_RESV_USAGE_BOOKKEEP, false, MAX_SCHEDULE_TIMEOUT);
	dma_resv_unlock(this->exported->resv);
	unmap_mapping_range(this->exported->file->f_mapping, 0, 0, 1);
	return 0;
}

static long locked_ioctl(struct importer *this, unsigned int command, void __user *user)
{
	struct told told = { .invalidated = READ_ONCE(this->invalidated) };
	struct attach wish;
	struct at at;
	int ret;

	switch (command) {
	case ATTACH:
		if (copy_from_user(&wish, user, sizeof(wish)))
			return -EFAULT;
		wish.device[sizeof(wish.device) - 1] = 0;
		return attach(this, &wish);
	case MAP:
		return map(this);
	case MAP_AGAIN:
		return map_again(this);
	case UNMAP:
		if (!this->attachment)
			return -EINVAL;
		dma_resv_lock(this->buffer->resv, NULL);
		unmap(this);
		dma_resv_unlock(this->buffer->resv);
		return 0;
	case DETACH:
		detach(this);
		return 0;
	case READ_WORD:
	case READ_WORD_STALE:
		if (!this->attachment)
			return -EINVAL;
		if (copy_from_user(&at, user, sizeof(at)))
			return -EFAULT;
		dma_resv_lock(this->buffer->resv, NULL);
		ret = command == READ_WORD ? read_table(this, at.offset, &at.value) :
					read_address(this, this->stale + at.offset, &at.value);
		dma_resv_unlock(this->buffer->resv);
		if (!ret && copy_to_user(user, &at, sizeof(at)))
			return -EFAULT;
		return ret;
	case TOLD:
		told.mapped = !!READ_ONCE(this->table);
		told.read_at_last = this->read_at_last;
		if (this->exported)
			told.pinned = atomic_read(&((struct importer *)this->exported->priv)->pinned);
		return copy_to_user(user, &told, sizeof(told)) ? -EFAULT : 0;
	case EXPORT:
		return export(this, user != NULL);
	case REVOKE:
		return revoke(this);
	default:
		return -ENOTTY;
	}
}

static long importer_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct importer *this = file->private_data;
	long ret;

	mutex_lock(&this->lock);
	ret = locked_ioctl(this, command, (void __user *)argument);
	mutex_unlock(&this->lock);
	return ret;
}

static int importer_open(struct inode *inode, struct file *file)
{
	struct importer *this = kzalloc(sizeof(*this), GFP_KERNEL);

	if (!this)
		return -ENOMEM;
	mutex_init(&this->lock);
	INIT_DELAYED_WORK(&this->late, come_round);
	file->private_data = this;
	return 0;
}

static int importer_release(struct inode *inode, struct file *file)
{
	struct importer *this = file->private_data;

	detach(this);
	if (this->exported)
		dma_buf_put(this->exported);
	kfree(this);
	return 0;
}

static const struct file_operations importer_fops = {
	.owner = THIS_MODULE,
	.open = importer_open,
	.release = importer_release,
	.unlocked_ioctl = importer_ioctl,
};

static struct miscdevice node = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "mapbuf-importer",
	.fops = &importer_fops,
};

static int __init importer_init(void)
{
	int ret;

	own = platform_device_register_simple("mapbuf-importer", -1, NULL, 0);
	if (IS_ERR(own))
		return PTR_ERR(own);
	ret = dma_coerce_mask_and_coherent(&own->dev, DMA_BIT_MASK(64));
	if (!ret)
		ret = misc_register(&node);
	if (ret)
		platform_device_unregister(own);
	return ret;
}

static void __exit importer_exit(void)
{
	misc_deregister(&node);
	platform_device_unregister(own);
}

module_init(importer_init);
module_exit(importer_exit);
MODULE_DESCRIPTION("Another driver at the other end of a dma-buf");
MODULE_IMPORT_NS("DMA_BUF");
MODULE_LICENSE("GPL");
