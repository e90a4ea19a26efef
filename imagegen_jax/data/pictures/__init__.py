"""Pictures that commands read and write: folders, videos, images that users hand over."""
