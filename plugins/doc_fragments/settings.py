# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The settings of containerd, as they are set and as they are verified."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of the modules that set or verify containerd's configuration."""

    DOCUMENTATION = r"""
options:
  settings:
    description: Settings of containerd. Settings that aren't listed are neither set nor compared.
    type: dict
    default: {}
    suboptions:
      image_pull_sync_fs:
        description:
          - Flush the layers that CRI pulls to disk before they count as unpacked, so that they survive a power cut.
          - Needs containerd 1.7.14 or newer. Covers every switch that the version needs for it.
          - From containerd 2.1 on, CRI then pulls without the transfer service, and so without asking image verifiers. On a node
            with image verifiers it is refused, unless O(settings.allow_unverified_pulls) is V(true).
        type: bool
      allow_unverified_pulls:
        description:
          - Whether CRI may pull images without asking the node's image verifiers (C(io.containerd.image-verifier.v1.bindir)).
          - If V(false), settings with which containerd 2.1 or newer doesn't ask them are refused on a node that has image
            verifiers.
          - For images that are flushed to disk and verified, leave this and O(settings.image_pull_sync_fs) V(false), and pull
            with M(slipway.node.containerd_image).
        type: bool
        default: false
      snapshotter:
        description: Default snapshotter of CRI, for which images are unpacked.
        type: str
      snapshotters:
        description:
          - Tables of snapshotters by name, with the keys of containerd's own configuration.
          - A name that containerd doesn't know declares a proxy plugin and needs the key C(address). If CRI uses that
            snapshotter, containerd also passes it the names of the layers (C(disable_snapshot_annotations),
            C(enable_remote_snapshot_annotations)).
          - For V(erofs), the diff service and the transfer service are configured with its differ as well. The keys of the differ
            (C(mkfs_options), C(enable_tar_index), C(enable_dmverity)) stand beside those of the snapshotter.
        type: dict
        default: {}
      runtimes:
        description: Runtime handlers of the CRI plugin. The handler C(runc) stays, listed or not.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name of the handler, as a pod's runtime class has it.
            type: str
            required: true
          type:
            description: Runtime type, such as V(io.containerd.kata.v2).
            type: str
            default: io.containerd.runc.v2
          path:
            description: Absolute path of the shim, if containerd doesn't find it by its type.
            type: path
          config_path:
            description: Configuration file of the runtime (C(options.ConfigPath)).
            type: path
          snapshotter:
            description:
              - Snapshotter of this handler's pods. Needs containerd 1.7 or newer.
              - A snapshotter that isn't C(ok) in the running daemon, and that O(settings.snapshotters) doesn't change, is refused
                before anything changes.
              - If a handler's snapshotter differs from O(settings.snapshotter), containerd keeps the blobs of unpacked layers
                (C(discard_unpacked_layers) is off).
            type: str
          privileged_without_host_devices:
            description: Run privileged containers without the host's devices.
            type: bool
          pod_annotations:
            description: Patterns of the pod annotations that are passed to the runtime.
            type: list
            elements: str
            default: []
          options:
            description: Further keys of the handler's C(options) table.
            type: dict
            default: {}
      default_runtime:
        description: Handler of pods that name none.
        type: str
      systemd_cgroup:
        description: Let systemd manage the cgroups of runc's containers (C(SystemdCgroup) of the handler C(runc)).
        type: bool
      sandbox_image:
        description: Image of the pods' sandbox containers.
        type: str
      registry_config_path:
        description:
          - Directory in which CRI looks for C(hosts.toml) files; separate several directories with C(:).
          - From containerd 2.1 on, CRI reads several directories only if it pulls without the transfer service, as with
            O(settings.image_pull_sync_fs). They are refused otherwise.
        type: str
      max_concurrent_downloads:
        description: Number of layers of an image that are downloaded at the same time.
        type: int
      image_pull_progress_timeout:
        description:
          - Duration without any received data after which CRI cancels a pull, such as V(5m) or V(90s). V(0s) means no limit.
          - Needs containerd 1.7.0 or newer.
        type: str
      root:
        description: Directory of containerd's persistent data. Changing it moves no data.
        type: path
      extra_config:
        description:
          - Raw tables of containerd's configuration, merged last, for settings that have no option.
          - Write them in the newest schema that the daemon reads, regardless of the schema of O(config_file). On 2.x, use the
            plugin names of schema 3.
          - The tables C(grpc), C(ttrpc), C(metrics) and C(debug) can be written as in schema 3 or as in schema 4. The module
            writes them to the places of the schema of O(config_file).
        type: dict
        default: {}
  http_proxy:
    description:
      - HTTP proxy through which the daemon, M(slipway.node.containerd_image) and M(slipway.node.toolbox_snapshot) pull images.
      - Its URLs are C(http://), C(https://) or C(socks5://). In the user name and the password, write each character that isn't a
        letter, a digit or one of C(-._~) as C(%) and two hexadecimal digits for each of its bytes, for example with
        Ansible's filter P(ansible.builtin.urlencode#filter). It leaves the slash, which is C(%2F).
    type: dict
    suboptions:
      http:
        description: Proxy for plain HTTP registries.
        type: str
      https:
        description: Proxy for HTTPS registries.
        type: str
      no_proxy:
        description: Names, addresses and networks that are reached directly.
        type: list
        elements: str
        default: []
"""
