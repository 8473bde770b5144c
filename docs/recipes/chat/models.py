"""What was said."""

from django.contrib.auth.models import User
from django.db import models


class Line(models.Model):
    """One line of one room."""

    room = models.CharField(max_length=50, db_index=True)
    author = models.ForeignKey(User, models.CASCADE)
    text = models.TextField(max_length=2000)

    def as_json(self):
        """For pages."""
        return {"id": self.pk, "author": self.author.username, "text": self.text}
