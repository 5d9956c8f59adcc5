"""See component.py."""

from kubesight.components.check_settings.component import check_settings

__all__ = ["check_settings"]
