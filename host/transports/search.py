"""Finds hardware that could be a Tailrace device, without opening it."""

from pathlib import Path


def find_hardware(dev: Path = Path("/dev"), sysfs: Path = Path("/sys")) -> list[tuple[str, str]]:
    """Name what could be opened.

    Parameters
    ----------
    dev, sysfs : Path
        Where the kernel has files of devices, and where it tells about them.

    Returns
    -------
    list of (str, str)
        What `tailrace.transports.open.open_transport` takes, as far as it can be known, and what the system says of it.
    """
    found = _serial_ports()
    for user in sorted(dev.glob("xdma*_user")):
        found.append((f"xdma:{str(user).removesuffix('_user')},memory=SIZE", "PCIe card behind XDMA"))
    buffers = sorted(path.name for path in (sysfs / "class" / "u-dma-buf").glob("*"))
    memory = buffers[0] if buffers else "ADDRESS+SIZE"
    for device in sorted(dev.glob("uio*")):
        name = sysfs / "class" / "uio" / device.name / "name"
        found.append(
            (f"uio:{device},memory={memory}", name.read_text(encoding="utf-8").strip() if name.exists() else "UIO device")
        )
    return found


def _serial_ports() -> list[tuple[str, str]]:
    try:
        from serial.tools.list_ports import comports
    except ImportError:
        return []
    return [
        (f"serial:{port.device}", port.description)
        for port in sorted(comports(), key=lambda port: port.device)
        if port.hwid != "n/a"
    ]
