"""Notes to users."""

from django.contrib.auth.models import User
from django.db import models


class Note(models.Model):
    """One note to one user."""

    user = models.ForeignKey(User, models.CASCADE)
    text = models.CharField(max_length=200)
    read = models.BooleanField(default=False)
