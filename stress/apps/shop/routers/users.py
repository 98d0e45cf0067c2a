"""Users."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shop.database import session
from shop.models import User
from shop.schemas import UserChange, UserIn, UserOut

router = APIRouter(prefix="/users", tags=["users"])
Open = Annotated[Session, Depends(session)]


def found(opened: Session, number: int) -> User:
    if (row := opened.get(User, number)) is None:
        raise HTTPException(404, f"no user {number}")
    return row


@router.get("")
def list_users(
    opened: Open, offset: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(le=100)] = 20
) -> list[UserOut]:
    rows = opened.scalars(select(User).order_by(User.id).offset(offset).limit(limit))
    return [UserOut.model_validate(row) for row in rows]


@router.get("/count")
def count_users(opened: Open) -> int:
    return opened.scalar(select(func.count()).select_from(User)) or 0


@router.get("/{number}")
def get_user(number: int, opened: Open) -> UserOut:
    return UserOut.model_validate(found(opened, number))


@router.post("", status_code=201)
def add_user(new: UserIn, opened: Open) -> UserOut:
    row = User(**new.model_dump())
    opened.add(row)
    opened.commit()
    return UserOut.model_validate(row)


@router.patch("/{number}")
def change_user(number: int, change: UserChange, opened: Open) -> UserOut:
    row = found(opened, number)
    for name, value in change.model_dump(exclude_unset=True).items():
        setattr(row, name, value)
    opened.commit()
    return UserOut.model_validate(row)


@router.delete("/{number}", status_code=204)
def delete_user(number: int, opened: Open) -> None:
    opened.delete(found(opened, number))
    opened.commit()
