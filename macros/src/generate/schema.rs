//! `ShmType`: the schema and the size bound.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::{GenericArgument, PathArguments, Type};

use super::{archived_ident, private, rkyv::variant_struct};
use crate::model::{Field, Fields, Model, Shape};

pub fn schema(model: &Model) -> TokenStream {
    let (private, ident, name) = (private(), &model.ident, model.schema_name());
    let (impl_generics, ty_generics, clause) = model.generics.split_for_impl();
    let (kind, bound, nests) = (kind(model), bound(model), nests(model));
    // A message with a `Bulk` is whole by itself: it implements `ShmRoot` and not `ShmType`.
    let (name_of_trait, points) = if model.has_bulk() {
        (quote!(ShmRoot), None)
    } else {
        (quote!(ShmType), Some(points(model)))
    };
    let (order, bulk) = (bulk_order(model), bulk_of(model));
    let (outside, inside) = if model.generics.params.is_empty() {
        (quote!(#(const _: () = #order;)*), quote!())
    } else {
        (quote!(), quote!(#(const { #order };)*))
    };
    quote! {
        #outside
        #[automatically_derived]
        impl #impl_generics #private::#name_of_trait for #ident #ty_generics #clause {
            #points

            fn describe(schema: &mut #private::schema::Builder) -> #private::schema::TypeRef {
                #inside
                schema.define::<Self>(#name, |schema| #kind)
            }

            #[inline]
            fn out_of_line(&self) -> ::core::option::Option<usize> {
                #bound
            }

            #nests

            #bulk
        }
    }
}

fn kind(model: &Model) -> TokenStream {
    let private = private();
    let (_, ty_generics, _) = model.generics.split_for_impl();
    let manual = model.settings.manual;
    match &model.shape {
        Shape::Struct(fields) => {
            let archived = archived_ident(model);
            let fields = described(fields, |_, field| {
                let member = &field.member;
                (!manual).then(|| quote!(::core::mem::offset_of!(#archived #ty_generics, #member)))
            });
            quote!(#private::schema::Kind::Struct(#fields))
        }
        Shape::Enum(variants) => {
            let variants = variants.iter().map(|variant| {
                let (name, part) = (variant.ident.to_string(), variant_struct(variant));
                let fields = described(&variant.fields, |i, _| {
                    // After the tag.
                    let index = syn::Index::from(i + 1);
                    (!manual).then(|| quote!(::core::mem::offset_of!(#part #ty_generics, #index)))
                });
                quote!(#private::schema::Variant::new(#name, #fields))
            });
            quote!(#private::schema::Kind::Enum(::std::vec![#(#variants),*]))
        }
    }
}

fn described(fields: &Fields, offset: impl Fn(usize, &Field) -> Option<TokenStream>) -> TokenStream {
    let private = private();
    let list = fields.list.iter().enumerate().map(|(i, field)| {
        let (name, ty) = (field.name(), &field.ty);
        let of = trait_of(field);
        let described = field.opaque.as_ref().map_or_else(
            || quote_spanned!(field.span=> <#ty #of>::describe(schema)),
            |label| quote_spanned!(field.span=> schema.opaque::<#ty>(#label)),
        );
        let offset = offset(i, field).map_or_else(
            || quote!(::core::option::Option::None),
            |offset| quote!(::core::option::Option::Some(#offset)),
        );
        quote!(#private::schema::Field::new(#name, #described, #offset))
    });
    quote!(::std::vec![#(#list),*])
}

fn bound(model: &Model) -> TokenStream {
    let private = private();
    if model.settings.manual {
        return quote!(::core::option::Option::None);
    }
    let arm = |pattern: TokenStream, fields: &Fields| {
        let members = fields.list.iter().map(|field| &field.member);
        let values: Vec<_> = (0..fields.list.len())
            .map(|i| format_ident!("__value{i}"))
            .collect();
        let bounds = fields.list.iter().zip(&values).map(|(field, value)| {
            let (ty, of) = (&field.ty, trait_of(field));
            if field.opaque.is_some() {
                quote! {{
                    let _ = #value;
                    #private::opaque_out_of_line::<#ty>()
                }}
            } else {
                quote_spanned!(field.span=> <#ty #of>::out_of_line(#value))
            }
        });
        quote! {
            #pattern { #(#members: #values,)* } => {
                let sum = ::core::option::Option::Some(0);
                #(let sum = #private::out_of_line_sum(sum, #bounds);)*
                sum
            }
        }
    };
    let arms: Vec<TokenStream> = match &model.shape {
        Shape::Struct(fields) => vec![arm(quote!(Self), fields)],
        Shape::Enum(variants) => variants
            .iter()
            .map(|variant| {
                let (ident, name) = (&model.ident, &variant.ident);
                arm(quote!(#ident::#name), &variant.fields)
            })
            .collect(),
    };
    quote!(match self { #(#arms)* })
}

/// The trait that a field's description comes from. A `Bulk` has it without one, as it is no `ShmType`.
fn trait_of(field: &Field) -> Option<TokenStream> {
    let private = private();
    (!field.bulk).then(|| quote_spanned!(field.span=> as #private::ShmType))
}

/// Whether the archived form of a field may point to something elsewhere in the archive.
fn points_of(field: &Field) -> TokenStream {
    let (private, ty) = (private(), &field.ty);
    if field.opaque.is_some() {
        quote_spanned!(field.span=> #private::opaque_points::<#ty>())
    } else {
        quote_spanned!(field.span=> <#ty as #private::ShmType>::POINTS)
    }
}

fn points(model: &Model) -> TokenStream {
    let any = if model.settings.manual {
        quote!(true)
    } else {
        let fields = model.fields().map(points_of);
        quote!(false #(|| #fields)*)
    };
    quote!(const POINTS: bool = #any;)
}

/// What must hold of a message with a `Bulk`, as expressions of the constant kind: it is one, and no field before it
/// points to anything, because a receiver wants what is elsewhere in the archive in the order of the fields.
fn bulk_order(model: &Model) -> Vec<TokenStream> {
    let private = private();
    let fields: Vec<_> = model.fields().collect();
    let Some(at) = fields.iter().position(|field| field.bulk) else {
        return Vec::new();
    };
    let (bulk, ty) = (fields[at].name(), &fields[at].ty);
    let is_bulk = quote_spanned!(fields[at].span=> #private::assert_bulk::<#ty>());
    let before = fields[..at].iter().map(|field| {
        let message = format!(
            "`{}` may hold data elsewhere in the archive (text, a list, a box): put it after the `Bulk` `{bulk}`",
            field.name()
        );
        let points = points_of(field);
        quote_spanned!(field.span=> ::core::assert!(!#points, #message))
    });
    std::iter::once(is_bulk).chain(before).collect()
}

/// Where a message's `Bulk` is: no enum has one.
fn bulk_of(model: &Model) -> Option<TokenStream> {
    let private = private();
    let member = &model.fields().find(|field| field.bulk)?.member;
    Some(quote! {
        #[inline]
        fn bulk_mut(&mut self) -> ::core::option::Option<&mut #private::Bulk> {
            ::core::option::Option::Some(&mut self.#member)
        }
    })
}

/// Whether values nest without limit is seen from the schema, once. Where the fields are plainly leaves,
/// which is most messages, it need not be asked; a user's type that hides such a name is then not seen.
fn nests(model: &Model) -> Option<TokenStream> {
    let private = private();
    if !model.settings.manual
        && model
            .fields()
            .all(|field| field.bulk || field.opaque.is_none() && is_leaf(&field.ty))
    {
        return None;
    }
    let body = if model.generics.params.is_empty() {
        quote! {
            static NESTS: ::std::sync::OnceLock<bool> = ::std::sync::OnceLock::new();
            *NESTS.get_or_init(|| #private::schema::Schema::of::<Self>().may_nest())
        }
    } else {
        quote!(#private::nests::<Self>())
    };
    Some(quote! {
        #[inline]
        fn nests() -> bool {
            #body
        }
    })
}

fn is_leaf(ty: &Type) -> bool {
    const LEAVES: &[&str] = &[
        "bool", "char", "i8", "i16", "i32", "i64", "i128", "u8", "u16", "u32", "u64", "u128", "f32", "f64",
        "String", "str", "Duration",
    ];
    match ty {
        Type::Array(array) => is_leaf(&array.elem),
        Type::Slice(slice) => is_leaf(&slice.elem),
        Type::Tuple(tuple) => tuple.elems.iter().all(is_leaf),
        Type::Path(path) if path.qself.is_none() && path.path.segments.len() == 1 => {
            let segment = &path.path.segments[0];
            match &segment.arguments {
                PathArguments::None => LEAVES.iter().any(|leaf| segment.ident == leaf),
                PathArguments::AngleBracketed(arguments) => {
                    ["Vec", "Box", "Option"].iter().any(|list| segment.ident == list)
                        && arguments
                            .args
                            .iter()
                            .all(|it| matches!(it, GenericArgument::Type(ty) if is_leaf(ty)))
                }
                PathArguments::Parenthesized(_) => false,
            }
        }
        _ => false,
    }
}
