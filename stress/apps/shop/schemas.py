"""What requests and responses contain."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class Stored(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int


class UserIn(BaseModel):
    name: str = Field(min_length=1, max_length=100)
    email: str = Field(pattern=r"^[^@]+@[^@]+$")


class UserChange(BaseModel):
    name: str | None = None
    email: str | None = None


class UserOut(UserIn, Stored):
    created: datetime


class ProductIn(BaseModel):
    name: str = Field(min_length=1, max_length=100)
    price: int = Field(ge=0)
    category_id: int | None = None


class ProductChange(BaseModel):
    name: str | None = None
    price: int | None = Field(default=None, ge=0)


class ProductOut(ProductIn, Stored):
    pass


class LineIn(BaseModel):
    product_id: int
    count: int = Field(gt=0)


class LineOut(LineIn, Stored):
    pass


class OrderIn(BaseModel):
    user_id: int


class OrderChange(BaseModel):
    paid: bool | None = None


class OrderOut(OrderIn, Stored):
    created: datetime
    paid: bool


class ReviewIn(BaseModel):
    user_id: int
    product_id: int
    stars: int = Field(ge=1, le=5)
    text: str = ""


class ReviewChange(BaseModel):
    stars: int | None = Field(default=None, ge=1, le=5)
    text: str | None = None


class ReviewOut(ReviewIn, Stored):
    pass


class Statistics(BaseModel):
    users: int
    products: int
    orders: int
    reviews: int


class Settings(BaseModel):
    currency: str = "EUR"
    page: int = 20
