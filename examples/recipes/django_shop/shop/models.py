from django.db import models


class Order(models.Model):
    text = models.CharField(max_length=200)
    placed = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"order {self.pk}: {self.text}"


class Invoice(models.Model):
    """The result of the work. Its primary key is that of the order, so that an order has one."""

    order = models.OneToOneField(Order, models.CASCADE, primary_key=True)
    text = models.TextField()

    def __str__(self) -> str:
        return f"invoice {self.pk}: {self.text}"
