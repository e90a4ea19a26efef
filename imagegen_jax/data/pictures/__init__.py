"""Pictures that commands read and write: images that users give, folders, arrays, videos."""
