"""What other programs leave among images, which is no part of a collection: thumbnails, recycle bins, copies."""

_FOLDERS = {
    *("__macosx", "__pycache__", "_vti_cnf", "~snapshot", "lost+found", "found.000"),
    *("system volume information", "recycler", "recycled", "config.msi", "msocache", "winreagent"),
    *("network trash folder", "temporary items", "theseparatetrash", "thevolumesettingsfolder"),
}
"""Folders' names in small letters, besides those that begin as ``_PREFIXES`` has it."""

_PREFIXES = (".", "@", "#recycle", "#snapshot", "$")
"""Hidden folders, and those of network storage (Synology, QNAP) and Windows."""

_FILES = (".", "~$", "synophoto_", "synoindex_", "synofile_")


def is_foreign_folder(name: str) -> bool:
    """Whether a folder's name is one that other programs give to what they leave.

    Example:
        >>> [is_foreign_folder(name) for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX", "n01443537")]
        [True, True, True, False]
    """
    lower = name.lower()
    return lower.startswith(_PREFIXES) or lower in _FOLDERS or (lower.startswith("found.") and lower[6:].isdecimal())


def is_foreign_file(name: str) -> bool:
    """Whether a file's name is one that other programs give to what they leave, though it may end as an image's.

    Example:
        >>> [is_foreign_file(name) for name in ("._10_left.jpeg", "SYNOPHOTO_THUMB_M.jpg", "10_left.jpeg")]
        [True, True, False]
    """
    return name.lower().startswith(_FILES)


def is_foreign(path: str) -> bool:
    """Whether a path that is relative to a collection's folder leads to what another program has left.

    Example:
        >>> is_foreign("mgh/.ipynb_checkpoints/a-checkpoint.jpg"), is_foreign("mgh/a.jpg"), is_foreign("./mgh/../a.jpg")
        (True, False, False)
    """
    *folders, name = path.replace("\\", "/").split("/")
    return is_foreign_file(name) or any(is_foreign_folder(each) for each in folders if each.strip("."))
