# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys that Kata's Go runtime knows in a hypervisor's table. It has one list for all hypervisors.

Kata src/runtime/pkg/katautils/config.go, the type hypervisor, in all releases from 3.0.0, the first with drop-ins, to 4.1.0.
"""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version

_ALWAYS = """
block_device_aio block_device_cache_direct block_device_cache_noflush block_device_cache_set block_device_driver
confidential_guest cpu_features default_bridges default_maxmemory default_maxvcpus default_memory default_vcpus
disable_block_device_use disable_image_nvdimm disable_nesting_checks disable_seccomp disable_selinux
disable_vhost_net disk_rate_limiter_bw_max_rate disk_rate_limiter_bw_one_time_burst disk_rate_limiter_ops_max_rate
disk_rate_limiter_ops_one_time_burst enable_annotations enable_debug enable_guest_swap enable_hugepages enable_iommu
enable_iommu_platform enable_iothreads enable_mem_prealloc enable_vhost_user_store enable_virtio_mem entropy_source
firmware firmware_volume guest_hook_path guest_memory_dump_paging guest_memory_dump_path image initrd jailer_path
kernel kernel_params machine_accelerators machine_type memory_offset memory_slots msize_9p
net_rate_limiter_bw_max_rate net_rate_limiter_bw_one_time_burst net_rate_limiter_ops_max_rate
net_rate_limiter_ops_one_time_burst path pflashes rootless rx_rate_limiter_max_rate seccompsandbox shared_fs
tx_rate_limiter_max_rate use_legacy_serial valid_entropy_sources valid_hypervisor_paths valid_jailer_paths
valid_vhost_user_store_paths valid_virtio_fs_daemon_paths vhost_user_store_path virtio_fs_cache virtio_fs_cache_size
virtio_fs_daemon virtio_fs_extra_args
"""
# Keys that were added later and are still known. Keys that were removed are left to the vendor's file.
_SINCE = {
    Version(3, 1, 0): "disable_guest_selinux rootfs_type sev_snp_guest vhost_user_reconnect_timeout_sec virtio_fs_queue_size",
    Version(3, 2, 0): "cold_plug_vfio extra_monitor_socket hot_plug_vfio",
    Version(3, 3, 0): "remote_hypervisor_socket remote_hypervisor_timeout",
    Version(3, 6, 0): "pcie_root_port pcie_switch_port tdx_quote_generation_service_socket_port",
    Version(3, 14, 0): "hypervisor_loglevel",
    Version(3, 15, 0): "snp_id_auth snp_id_block",
    Version(3, 17, 0): "reclaim_guest_freed_memory",
    Version(3, 20, 0): "snp_guest_policy",
    Version(3, 22, 0): "measurement_algo",
    Version(3, 24, 0): "indep_iothreads",
    Version(3, 27, 0): "enable_numa kernel_verity_params numa_mapping",
    Version(3, 29, 0): "block_device_logical_sector_size block_device_physical_sector_size",
    Version(4, 0, 0): "guest_extension_images",
}


def go_keys(version: Version | None) -> frozenset[str]:
    """Return the keys that a release is known to take; without a version, those that every release takes."""
    later = (keys.split() for since, keys in _SINCE.items() if version is not None and version >= since)
    return frozenset(_ALWAYS.split()).union(*later)
