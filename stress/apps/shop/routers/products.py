"""Products."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shop.database import session
from shop.models import Product
from shop.schemas import ProductChange, ProductIn, ProductOut

router = APIRouter(prefix="/products", tags=["products"])
Open = Annotated[Session, Depends(session)]


def found(opened: Session, number: int) -> Product:
    if (row := opened.get(Product, number)) is None:
        raise HTTPException(404, f"no product {number}")
    return row


@router.get("")
def list_products(
    opened: Open, offset: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(le=100)] = 20
) -> list[ProductOut]:
    rows = opened.scalars(select(Product).order_by(Product.id).offset(offset).limit(limit))
    return [ProductOut.model_validate(row) for row in rows]


@router.get("/count")
def count_products(opened: Open) -> int:
    return opened.scalar(select(func.count()).select_from(Product)) or 0


@router.get("/{number}")
def get_product(number: int, opened: Open) -> ProductOut:
    return ProductOut.model_validate(found(opened, number))


@router.post("", status_code=201)
def add_product(new: ProductIn, opened: Open) -> ProductOut:
    row = Product(**new.model_dump())
    opened.add(row)
    opened.commit()
    return ProductOut.model_validate(row)


@router.patch("/{number}")
def change_product(number: int, change: ProductChange, opened: Open) -> ProductOut:
    row = found(opened, number)
    for name, value in change.model_dump(exclude_unset=True).items():
        setattr(row, name, value)
    opened.commit()
    return ProductOut.model_validate(row)


@router.delete("/{number}", status_code=204)
def delete_product(number: int, opened: Open) -> None:
    opened.delete(found(opened, number))
    opened.commit()
