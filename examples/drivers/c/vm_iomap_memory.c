// SPDX-License-Identifier: GPL-2.0
/*
 * vm_iomap_memory: the BAR of a PCI device, here the shared memory of QEMU's ivshmem.
 *
 * /dev/vm_iomap_memory-ADDRESS maps it; read and write are the kernel's view of the same bytes. A device that must go
 * while programs have it mapped wants fault_pfn.c: here its removal waits for them.
 */
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/refcount.h>
#include <linux/uio.h>

#define BAR 2

struct my_device {
	struct miscdevice node;
	phys_addr_t start;
	resource_size_t bytes;
	void __iomem *view;
	/* One for probe, one for each open file. */
	refcount_t users;
	struct completion idle;
};

static int my_open(struct inode *inode, struct file *file)
{
	/* The misc layer has put the node there. It does not go meanwhile: misc_deregister waits for this call. */
	struct my_device *device = container_of(file->private_data, struct my_device, node);

	refcount_inc(&device->users);
	file->private_data = device;
	return 0;
}

static int my_release(struct inode *inode, struct file *file)
{
	struct my_device *device = file->private_data;

	/* After the last close and the last munmap: every mapping holds its file. */
	if (refcount_dec_and_test(&device->users))
		complete(&device->idle);
	return 0;
}

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct my_device *device = file->private_data;

	/* As in remap_pfn_range.c: no copy-on-write of frames. */
	if ((vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE) {
		if (vma->vm_flags & VM_WRITE)
			return -EINVAL;
		vm_flags_clear(vma, VM_MAYWRITE);
	}
	/* The cache mode is left to us, and must be that of the kernel's view. */
	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	/*
	 * It compares vm_pgoff and the length with the range by itself, without a sum that could wrap, and sets VM_IO,
	 * VM_PFNMAP, VM_DONTEXPAND and VM_DONTDUMP.
	 */
	return vm_iomap_memory(vma, device->start, device->bytes);
}

/* read and write, up to 256 bytes at a time. */
static ssize_t my_transfer(struct kiocb *iocb, struct iov_iter *iter)
{
	struct my_device *device = iocb->ki_filp->private_data;
	bool write = iov_iter_rw(iter) == WRITE;
	u8 some[256];
	size_t count;

	if (iocb->ki_pos >= device->bytes)
		return write ? -ENOSPC : 0;
	count = min3(iov_iter_count(iter), sizeof(some), (size_t)(device->bytes - iocb->ki_pos));
	if (write && !copy_from_iter_full(some, count, iter))
		return -EFAULT;
	if (write)
		memcpy_toio(device->view + iocb->ki_pos, some, count);
	else
		memcpy_fromio(some, device->view + iocb->ki_pos, count);
	if (!write && copy_to_iter(some, count, iter) != count)
		return -EFAULT;
	iocb->ki_pos += count;
	return count;
}

static const struct file_operations my_fops = {
	/* An open file, and so a mapping, keeps the module. */
	.owner = THIS_MODULE,
	.open = my_open,
	.release = my_release,
	.mmap = my_mmap,
	.read_iter = my_transfer,
	.write_iter = my_transfer,
};

static int my_probe(struct pci_dev *pci, const struct pci_device_id *id)
{
	struct my_device *device = devm_kzalloc(&pci->dev, sizeof(*device), GFP_KERNEL);
	int err;

	if (!device)
		return -ENOMEM;
	err = pcim_enable_device(pci);
	if (err)
		return err;
	/* The region and the kernel's view, both given back when the device goes. Registers are never cached. */
	device->view = pcim_iomap_region(pci, BAR, KBUILD_MODNAME);
	if (IS_ERR(device->view))
		return PTR_ERR(device->view);
	device->start = pci_resource_start(pci, BAR);
	device->bytes = pci_resource_len(pci, BAR);
	/* A BAR smaller than a page shares it with others, which a program must not see. */
	if (!PAGE_ALIGNED(device->start | device->bytes))
		return -ENODEV;
	refcount_set(&device->users, 1);
	init_completion(&device->idle);
	device->node.minor = MISC_DYNAMIC_MINOR;
	device->node.name = devm_kasprintf(&pci->dev, GFP_KERNEL, KBUILD_MODNAME "-%s", pci_name(pci));
	if (!device->node.name)
		return -ENOMEM;
	device->node.fops = &my_fops;
	device->node.parent = &pci->dev;
	pci_set_drvdata(pci, device);
	return misc_register(&device->node);
}

static void my_remove(struct pci_dev *pci)
{
	struct my_device *device = pci_get_drvdata(pci);

	misc_deregister(&device->node);
	/* Nobody can open it any more. The entries of those who have it mapped are made, so it stays until they end. */
	if (!refcount_dec_and_test(&device->users))
		wait_for_completion(&device->idle);
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

MODULE_DESCRIPTION("mmap by vm_iomap_memory, of a PCI device's memory");
MODULE_LICENSE("GPL");
