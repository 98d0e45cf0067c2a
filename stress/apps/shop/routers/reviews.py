"""Reviews."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shop.database import session
from shop.models import Review
from shop.schemas import ReviewChange, ReviewIn, ReviewOut

router = APIRouter(prefix="/reviews", tags=["reviews"])
Open = Annotated[Session, Depends(session)]


def found(opened: Session, number: int) -> Review:
    if (row := opened.get(Review, number)) is None:
        raise HTTPException(404, f"no review {number}")
    return row


@router.get("")
def list_reviews(
    opened: Open, offset: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(le=100)] = 20
) -> list[ReviewOut]:
    rows = opened.scalars(select(Review).order_by(Review.id).offset(offset).limit(limit))
    return [ReviewOut.model_validate(row) for row in rows]


@router.get("/count")
def count_reviews(opened: Open) -> int:
    return opened.scalar(select(func.count()).select_from(Review)) or 0


@router.get("/{number}")
def get_review(number: int, opened: Open) -> ReviewOut:
    return ReviewOut.model_validate(found(opened, number))


@router.post("", status_code=201)
def add_review(new: ReviewIn, opened: Open) -> ReviewOut:
    row = Review(**new.model_dump())
    opened.add(row)
    opened.commit()
    return ReviewOut.model_validate(row)


@router.patch("/{number}")
def change_review(number: int, change: ReviewChange, opened: Open) -> ReviewOut:
    row = found(opened, number)
    for name, value in change.model_dump(exclude_unset=True).items():
        setattr(row, name, value)
    opened.commit()
    return ReviewOut.model_validate(row)


@router.delete("/{number}", status_code=204)
def delete_review(number: int, opened: Open) -> None:
    opened.delete(found(opened, number))
    opened.commit()
