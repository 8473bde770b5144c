"""The rows of the table."""

from django.db import models


class Row(models.Model):
    """One row; the version grows with each change, so that an old event replaces no newer row."""

    name = models.CharField(max_length=50)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    version = models.PositiveIntegerField(default=1)

    def as_json(self):
        """For pages. Django's encoder takes the Decimal."""
        return {"id": self.pk, "name": self.name, "price": self.price, "version": self.version}
