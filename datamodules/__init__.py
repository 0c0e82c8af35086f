"""The collections as Lightning datamodules, one a file."""

from lit_dist.datamodules.base import SiteDataModule
from lit_dist.datamodules.folders import ImageNetDataModule
from lit_dist.datamodules.frozen_encoder import FrozenEncoder
from lit_dist.datamodules.fundus import FundusDataModule
from lit_dist.datamodules.images.albumentations_augmentation import Albumentations
from lit_dist.datamodules.images.augmentation import Augmentation, Augmenter
from lit_dist.datamodules.images.datamodule import ImageDataModule as InstitutionDataModule
from lit_dist.datamodules.images.device_augmentation import DeviceAugmentation
from lit_dist.datamodules.mammography.datamodule import MammographyDataModule
from lit_dist.datamodules.partition import (
    CountPartition,
    DirichletPartition,
    EqualPartition,
    Partition,
    SizePartition,
)
from lit_dist.datamodules.phantom import PhantomDataModule
from lit_dist.datamodules.table_of_images import ImageTableDataModule
from lit_dist.datamodules.tabular import TabularDataModule

__all__ = [
    "Albumentations",
    "Augmentation",
    "Augmenter",
    "CountPartition",
    "DeviceAugmentation",
    "DirichletPartition",
    "EqualPartition",
    "FrozenEncoder",
    "FundusDataModule",
    "ImageNetDataModule",
    "ImageTableDataModule",
    "InstitutionDataModule",
    "MammographyDataModule",
    "Partition",
    "PhantomDataModule",
    "SiteDataModule",
    "SizePartition",
    "TabularDataModule",
]
