"""The views of a Django project that `django-admin startproject` has made, for tests/processes_real.rs."""

from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

urlpatterns = [
    path("", lambda request: HttpResponse("here")),
    path("echo", csrf_exempt(lambda request: HttpResponse(request.body))),
]
