"""Notifications with an unread count."""
