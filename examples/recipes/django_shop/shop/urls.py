from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from shop.jobs import invoices, place
from shop.models import Invoice


@csrf_exempt  # an interface for programs
@require_POST
@transaction.atomic
def orders(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"order": place(request.POST["text"]).pk}, status=202)


@require_GET
def order(request: HttpRequest, number: int) -> JsonResponse:
    invoice = Invoice.objects.filter(pk=number).first()
    return JsonResponse({"state": invoices().state(number), "invoice": invoice and invoice.text})


urlpatterns = [path("orders/", orders), path("orders/<int:number>/", order)]
