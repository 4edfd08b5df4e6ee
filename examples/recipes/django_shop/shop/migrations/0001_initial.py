from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel(
            "Order",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("text", models.CharField(max_length=200)),
                ("placed", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            "Invoice",
            [
                (
                    "order",
                    models.OneToOneField("shop.Order", models.CASCADE, primary_key=True, serialize=False),
                ),
                ("text", models.TextField()),
            ],
        ),
    ]
