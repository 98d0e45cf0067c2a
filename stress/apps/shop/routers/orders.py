"""Orders."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shop.database import session
from shop.models import Order
from shop.schemas import OrderChange, OrderIn, OrderOut

router = APIRouter(prefix="/orders", tags=["orders"])
Open = Annotated[Session, Depends(session)]


def found(opened: Session, number: int) -> Order:
    if (row := opened.get(Order, number)) is None:
        raise HTTPException(404, f"no order {number}")
    return row


@router.get("")
def list_orders(
    opened: Open, offset: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(le=100)] = 20
) -> list[OrderOut]:
    rows = opened.scalars(select(Order).order_by(Order.id).offset(offset).limit(limit))
    return [OrderOut.model_validate(row) for row in rows]


@router.get("/count")
def count_orders(opened: Open) -> int:
    return opened.scalar(select(func.count()).select_from(Order)) or 0


@router.get("/{number}")
def get_order(number: int, opened: Open) -> OrderOut:
    return OrderOut.model_validate(found(opened, number))


@router.post("", status_code=201)
def add_order(new: OrderIn, opened: Open) -> OrderOut:
    row = Order(**new.model_dump())
    opened.add(row)
    opened.commit()
    return OrderOut.model_validate(row)


@router.patch("/{number}")
def change_order(number: int, change: OrderChange, opened: Open) -> OrderOut:
    row = found(opened, number)
    for name, value in change.model_dump(exclude_unset=True).items():
        setattr(row, name, value)
    opened.commit()
    return OrderOut.model_validate(row)


@router.delete("/{number}", status_code=204)
def delete_order(number: int, opened: Open) -> None:
    opened.delete(found(opened, number))
    opened.commit()
