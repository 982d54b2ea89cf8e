// SPDX-License-Identifier: GPL-2.0
/*
 * A fault handler that inserts frames: device memory that can be taken away while it is mapped.
 *
 * The BAR of a PCI device, here the shared memory of QEMU's ivshmem, as /dev/fault_pfn-ADDRESS; read and write are the
 * kernel's view of the same bytes. When the device goes (unplugged, or unbound from the driver), every mapping is
 * emptied: the next touch is a SIGBUS, and what read and write get is ENODEV.
 */
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/kref.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/path.h>
#include <linux/pci.h>
#include <linux/rwsem.h>
#include <linux/slab.h>
#include <linux/uio.h>

#define BAR 2

struct my_device {
	/* One for probe, one for each open file: this outlives the PCI device. */
	struct kref refs;
	struct miscdevice node;
	char name[64];
	/*
	 * Who uses the frames or the view holds it for reading, and has looked at the view. It is taken inside of the mmap
	 * lock (by a fault), so never held across a copy from or to user space, which may fault itself.
	 */
	struct rw_semaphore lock;
	/* NULL once the device has gone. */
	void __iomem *view;
	unsigned long pfn, pages;
	/* The node that was opened first, and its file system: all files share its address space. */
	struct path opened;
};

static void my_free(struct kref *refs)
{
	struct my_device *device = container_of(refs, struct my_device, refs);

	path_put(&device->opened);
	kfree(device);
}

static int my_open(struct inode *inode, struct file *file)
{
	/*
	 * The misc layer has put the node there. Its lock is held: there is one open at a time, and misc_deregister waits for
	 * it.
	 */
	struct my_device *device = container_of(file->private_data, struct my_device, node);

	kref_get(&device->refs);
	if (!device->opened.dentry) {
		device->opened = file->f_path;
		path_get(&device->opened);
	}
	/* Another node with the same number (mknod) has an inode of its own; its mappings must be found as well. */
	file->f_mapping = d_inode(device->opened.dentry)->i_mapping;
	file->private_data = device;
	return 0;
}

static int my_release(struct inode *inode, struct file *file)
{
	struct my_device *device = file->private_data;

	kref_put(&device->refs, my_free);
	return 0;
}

static vm_fault_t my_fault(struct vm_fault *vmf)
{
	struct my_device *device = vmf->vma->vm_file->private_data;

	guard(rwsem_read)(&device->lock);
	if (!device->view || vmf->pgoff >= device->pages)
		return VM_FAULT_SIGBUS;
	/* vmf->address, not an address worked out from vmf->pgoff: that counts from the start of the BAR. */
	return vmf_insert_pfn(vmf->vma, vmf->address, device->pfn + vmf->pgoff);
}

static const struct vm_operations_struct my_vm_ops = {
	.fault = my_fault,
};

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct my_device *device = file->private_data;

	/* vm_pgoff is any number that the program likes: no sum of it that could wrap. */
	if (vma->vm_pgoff >= device->pages || vma_pages(vma) > device->pages - vma->vm_pgoff)
		return -EINVAL;

	/* vmf_insert_pfn in a copy-on-write mapping is a BUG. */
	if ((vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE) {
		if (vma->vm_flags & VM_WRITE)
			return -EINVAL;
		vm_flags_clear(vma, VM_MAYWRITE);
	}

	/* So is vmf_insert_pfn without VM_PFNMAP. The others are what remap_pfn_range would set. */
	vm_flags_set(vma, VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_DONTDUMP);
	/* As the kernel's view. */
	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	vma->vm_ops = &my_vm_ops;
	return 0;
}

/* read and write, up to 256 bytes at a time. */
static ssize_t my_transfer(struct kiocb *iocb, struct iov_iter *iter)
{
	struct my_device *device = iocb->ki_filp->private_data;
	resource_size_t bytes = PFN_PHYS(device->pages);
	bool write = iov_iter_rw(iter) == WRITE;
	u8 some[256];
	size_t count;

	if (iocb->ki_pos >= bytes)
		return write ? -ENOSPC : 0;
	count = min3(iov_iter_count(iter), sizeof(some), (size_t)(bytes - iocb->ki_pos));
	if (write && !copy_from_iter_full(some, count, iter))
		return -EFAULT;
	scoped_guard(rwsem_read, &device->lock) {
		if (!device->view)
			return -ENODEV;
		if (write)
			memcpy_toio(device->view + iocb->ki_pos, some, count);
		else
			memcpy_fromio(some, device->view + iocb->ki_pos, count);
	}
	if (!write && copy_to_iter(some, count, iter) != count)
		return -EFAULT;
	iocb->ki_pos += count;
	return count;
}

static const struct file_operations my_fops = {
	/* An open file, and so a mapping, keeps the module; the device may go all the same. */
	.owner = THIS_MODULE,
	.open = my_open,
	.release = my_release,
	.mmap = my_mmap,
	.read_iter = my_transfer,
	.write_iter = my_transfer,
};

static int my_probe(struct pci_dev *pci, const struct pci_device_id *id)
{
	resource_size_t start = pci_resource_start(pci, BAR), bytes = pci_resource_len(pci, BAR);
	/* Not devm_kzalloc: files that are open when the device goes still have it. */
	struct my_device *device __free(kfree) = kzalloc(sizeof(*device), GFP_KERNEL);
	int err;

	if (!device)
		return -ENOMEM;
	err = pcim_enable_device(pci);
	if (err)
		return err;
	/* The region and the kernel's view, both given back after remove. Registers are never cached. */
	device->view = pcim_iomap_region(pci, BAR, KBUILD_MODNAME);
	if (IS_ERR(device->view))
		return PTR_ERR(device->view);
	/* A BAR smaller than a page shares it with others, which a program must not see. */
	if (!PAGE_ALIGNED(start | bytes))
		return -ENODEV;
	kref_init(&device->refs);
	init_rwsem(&device->lock);
	device->pfn = PHYS_PFN(start);
	device->pages = PHYS_PFN(bytes);
	snprintf(device->name, sizeof(device->name), KBUILD_MODNAME "-%s", pci_name(pci));
	device->node.minor = MISC_DYNAMIC_MINOR;
	device->node.name = device->name;
	device->node.fops = &my_fops;
	device->node.parent = &pci->dev;
	err = misc_register(&device->node);
	if (err)
		return err;
	pci_set_drvdata(pci, no_free_ptr(device));
	return 0;
}

static void my_remove(struct pci_dev *pci)
{
	struct my_device *device = pci_get_drvdata(pci);

	misc_deregister(&device->node);
	/* From here on no fault makes an entry ... */
	scoped_guard(rwsem_write, &device->lock)
		device->view = NULL;
	/*
	 * ... and here go those that there are, in every mapping of every process. That is why they are made by faults:
	 * when mmap makes them, its mapping is not on the list yet that this walks.
	 */
	if (device->opened.dentry)
		unmap_mapping_range(d_inode(device->opened.dentry)->i_mapping, 0, 0, 1);
	kref_put(&device->refs, my_free);
}

static const struct pci_device_id my_ids[] = {
	{ PCI_DEVICE(0x1af4, 0x1110) },
	{ }
};
MODULE_DEVICE_TABLE(pci, my_ids);

static struct pci_driver my_driver = {
	.name = KBUILD_MODNAME,
	.id_table = my_ids,
	.probe = my_probe,
	.remove = my_remove,
};
module_pci_driver(my_driver);

MODULE_DESCRIPTION("mmap by a fault handler that inserts frames, revoked when the device goes");
MODULE_LICENSE("GPL");
