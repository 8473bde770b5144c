"""What the recipes share: settings, pages to log in, and who may subscribe to what."""
